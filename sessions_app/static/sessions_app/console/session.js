// A session's page: its conversation grows as the session goes on, over the stream that any client
// has. Events have ids and each is applied once; whoever comes back goes on after the last one.

import { markRead, serve } from "./acts.js";
import { isAtEnd, toEnd } from "./dom.js";
import { Live } from "./live.js";
import { Refusal, calmly, listen, request, shownIn, span } from "./shared.js";
import { Talk, addCopy } from "./talk.js";

// Milliseconds between two looks at the facts, and after which a page that nobody sees lets go of
// its stream: a browser has only some six for all its tabs.
const GAP = 1000;
const UNSEEN = 30_000;

const page = document.querySelector(".session-page");
const place = document.getElementById("session-live");
const messages = document.getElementById("messages");
const talk = messages && new Talk(page, messages);
const live = talk && new Live(page, talk, changed);
let last = Number(page.dataset.after);
let stream = null;
let isGone = false;

// The head and the facts, as they are now.

function put(id, html) {
  const target = document.getElementById(id);
  // What somebody is about to use stays: it is looked at again with the next change.
  if (!target || target.contains(document.activeElement) || target.querySelector("details[open]")) return;
  if (target.innerHTML !== html) target.innerHTML = html;
}

const look = calmly(async () => {
  try {
    const stick = isAtEnd();
    const found = await request(page.dataset.head);
    const isOther = found.status !== page.dataset.status;
    page.dataset.status = found.status;
    if (isOther) document.activeElement?.closest?.("#session-head")?.querySelector(":focus")?.blur();
    put("session-head", found.head);
    put("session-side", found.side);
    put("session-end", found.end);
    // What somebody has begun to write is not taken away.
    if (isOther && !page.querySelector("[name=content]")?.value) put("session-composer", found.composer);
    if (page.dataset.read && !document.hidden) markRead(page.dataset.read);
    if (stick && talk?.isAtNewest) toEnd();
    tick();
  } catch (error) {
    if (error instanceof Refusal && error.status === 404) gone();
  }
}, GAP);

function changed() {
  document.getElementById("session-composer")?.classList.toggle("is-running", live.isRunning);
  look();
}

// The stream

function show(word, text) {
  place.hidden = false;
  place.dataset.state = word;
  place.textContent = text;
}

function over(text) {
  stream?.close();
  stream = null;
  isGone = true;
  show("ended", text);
}

function gone() {
  over("Deleted");
  document.getElementById("session-composer")?.replaceChildren();
}

function heard(name, data, id) {
  if (name === "connected") return;
  if (name === "session_ended") {
    if (data?.status === "deleted") return gone();
    over("Ended");
  }
  // A notice has no id of its own, and an event that was applied is not applied again.
  if (!id || Number(id) <= last) return name === "session_ended" ? look() : undefined;
  last = Number(id);
  live?.heard(name, data ?? {});
  if (name.startsWith("session_")) look();
  if (!live && name.endsWith("_complete")) look();
}

const WORD = shownIn(place);

function state(word) {
  WORD(word);
  // A session that was deleted meanwhile has no stream to come back to.
  if (word === "waiting") look();
}

function follow() {
  if (isGone || stream) return;
  const names = [...new Set([...(messages?.dataset.events.split(" ") ?? []), ...OF_SESSION])];
  stream = listen(page.dataset.stream, names, heard, { after: last, state });
}

const OF_SESSION = ["session_started", "session_updated", "session_ended", "assistant_message_complete"];

let unseen = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(unseen);
  if (!document.hidden) return follow();
  unseen = setTimeout(() => {
    stream?.close();
    stream = null;
  }, UNSEEN);
});
addEventListener("pagehide", () => stream?.close());
addEventListener("pageshow", ({ persisted }) => persisted && location.reload());

// What grows with time

function tick() {
  for (const one of document.querySelectorAll("[data-since]")) {
    const since = Date.parse(one.dataset.since);
    if (since) one.textContent = span(Math.max(0, (Date.now() - since) / 1000));
  }
}
setInterval(tick, 1000);
tick();

// Copying, reading all of a message, and links to messages

page.addEventListener("click", async (event) => {
  const copy = event.target.closest(".copy");
  if (copy) {
    await navigator.clipboard.writeText(copy.previousElementSibling.textContent);
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 2000);
  }
  const whole = event.target.closest("[data-whole]");
  if (whole && talk) {
    event.preventDefault();
    whole.textContent = "Loading…";
    talk.render(whole.closest(".message").dataset.seq, "?whole");
  }
  const link = event.target.closest(".message-link");
  if (link?.hash && talk && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    history.replaceState(null, "", link.href);
    talk.goTo(link.hash.slice("#message-".length));
  }
});

function target() {
  return /^#message-(\d{1,9})$/.exec(location.hash)?.[1];
}

async function arrive() {
  if (target()) await talk.goTo(target()).catch(() => {});
  else if (talk.isAtNewest && !location.hash) toEnd();
}

addEventListener("hashchange", () => talk && target() && arrive());
page.querySelectorAll(".event pre, .document pre").forEach(addCopy);
serve(page, look);
if (talk) arrive();
if (["created", "active"].includes(page.dataset.status)) follow();
else show("ended", "Ended");
