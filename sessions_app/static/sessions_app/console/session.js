// A session's page: its conversation grows as the session goes on, over the same stream that any
// client reads. Events have ids and each is applied once; a new connection begins after the last one.

import { handleForms, markRead, showMessage } from "./actions.js";
import { isAtEnd, scrollToEnd } from "./dom.js";
import { LiveRuns } from "./live.js";
import { RequestError, formatDuration, listen, request, showStateIn, throttle } from "./shared.js";
import { Transcript, addCopy } from "./transcript.js";

// Milliseconds between two requests for the head, and after which a hidden page closes its stream: a
// browser has only about six connections for all its tabs.
const GAP = 1000;
const UNSEEN = 30_000;

const page = document.querySelector(".session-page");
const place = document.getElementById("session-live");
const messages = document.getElementById("messages");
const transcript = messages && new Transcript(page, messages);
const live = transcript && new LiveRuns(page, transcript, changed);
let last = Number(page.dataset.after);
let stream = null;
let isGone = false;

// The head and the summary

function replaceHtml(id, html) {
  const target = document.getElementById(id);
  // A part that somebody is using stays as it is until the next change.
  if (!target || target.contains(document.activeElement) || target.querySelector("details[open]")) return;
  if (target.innerHTML !== html) target.innerHTML = html;
}

const refresh = throttle(async () => {
  try {
    const stick = isAtEnd();
    const found = await request(page.dataset.head);
    if (found.epoch && page.dataset.epoch && found.epoch !== page.dataset.epoch) return reload();
    const isOther = found.status !== page.dataset.status;
    page.dataset.status = found.status;
    if (isOther) document.activeElement?.closest?.("#session-head")?.querySelector(":focus")?.blur();
    replaceHtml("session-head", found.head);
    replaceHtml("session-side", found.side);
    replaceHtml("session-end", found.end);
    // A message that somebody has begun to write is kept.
    if (isOther && !page.querySelector("[name=content]")?.value) replaceHtml("session-composer", found.composer);
    if (page.dataset.read && !document.hidden) markRead(page.dataset.read);
    if (stick && transcript?.isAtNewest) scrollToEnd();
    tick();
  } catch (error) {
    if (error instanceof RequestError && error.status === 404) gone();
  }
}, GAP);

function changed() {
  document.getElementById("session-composer")?.classList.toggle("is-running", live.isRunning);
  refresh();
}

// The stream

function show(word, text) {
  place.hidden = false;
  place.dataset.state = word;
  place.textContent = text;
}

function finish(text) {
  stream?.close();
  stream = null;
  isGone = true;
  show("ended", text);
}

function gone() {
  finish("Deleted");
  document.getElementById("session-composer")?.replaceChildren();
}

// The database was set back, and what the page shows may be lost. A message that somebody has begun
// to write is kept.
const KEPT = `set-back ${location.pathname}`;

function reload() {
  if (isGone) return;
  finish("Reloading");
  sessionStorage.setItem(KEPT, page.querySelector("[name=content]")?.value ?? "");
  location.reload();
}

const kept = sessionStorage.getItem(KEPT);
if (kept !== null) {
  sessionStorage.removeItem(KEPT);
  const field = page.querySelector("[name=content]");
  if (field && !field.value) field.value = kept;
  showMessage(
    "The database was set back to an earlier state: the newest messages may be lost. This is the session as it is now.",
    "error",
  );
}

function handleEvent(name, data, id) {
  if (name === "journal_reset") return reload();
  if (name === "session_ended") {
    if (data?.status === "deleted") return gone();
    finish("Ended");
  }
  // A notice has no id of its own, and an event that was applied is not applied again.
  if (!id || Number(id) <= last) return name === "session_ended" ? refresh() : undefined;
  last = Number(id);
  live?.handle(name, data ?? {});
  if (name.startsWith("session_")) refresh();
  if (!live && name.endsWith("_complete")) refresh();
}

const showState = showStateIn(place);

function state(word) {
  showState(word);
  // If the session was deleted meanwhile, or the database set back, there is no stream to reconnect to.
  if (word === "waiting") refresh();
}

function follow() {
  if (isGone || stream) return;
  const names = [...Object.keys(JSON.parse(page.dataset.events)), "journal_reset"];
  const { stream: url, epoch } = page.dataset;
  stream = listen(url, names, handleEvent, { after: last, epoch, state });
}

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

// Durations that grow

function tick() {
  for (const one of document.querySelectorAll("[data-since]")) {
    const since = Date.parse(one.dataset.since);
    if (since) one.textContent = formatDuration(Math.max(0, (Date.now() - since) / 1000));
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
  if (whole && transcript) {
    event.preventDefault();
    whole.textContent = "Loading…";
    transcript.render(whole.closest(".message").dataset.seq, "?whole");
  }
  const link = event.target.closest(".message-link");
  if (link?.hash && transcript && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    history.replaceState(null, "", link.href);
    transcript.goTo(link.hash.slice("#message-".length));
  }
});

function target() {
  return /^#message-(\d{1,9})$/.exec(location.hash)?.[1];
}

async function arrive() {
  if (target()) await transcript.goTo(target()).catch(() => {});
  else if (transcript.isAtNewest && !location.hash) scrollToEnd();
}

addEventListener("hashchange", () => transcript && target() && arrive());
page.querySelectorAll(".event pre, .document pre").forEach(addCopy);
handleForms(page, refresh);
if (transcript) arrive();
if (["created", "active"].includes(page.dataset.status)) follow();
else show("ended", "Ended");
