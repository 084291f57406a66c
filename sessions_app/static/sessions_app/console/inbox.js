// The inbox of approvals, live: on a hint of the feed the page is fetched again, and what has changed
// is replaced; a question that somebody may be answering stays until it is answered.

import { handleForms } from "./actions.js";
import { FEED, listen, showStateIn, throttle } from "./shared.js";

// Milliseconds between two requests: at least, after a hint; at most, without one.
const GAP = 500;
const QUIET = 15_000;

const live = document.getElementById("live");

function replaceParts(page) {
  for (const part of document.querySelectorAll("[data-live]")) {
    const fresh = page.querySelector(`[data-live="${part.dataset.live}"]`);
    if (fresh && fresh.innerHTML !== part.innerHTML) part.replaceChildren(...fresh.childNodes);
  }
  for (const list of document.querySelectorAll("[data-rows]")) {
    replaceRows(list, page.querySelector(`[data-rows="${list.dataset.rows}"]`));
  }
}

function replaceRows(list, fresh) {
  const known = new Map([...list.children].map((row) => [row.dataset.row, row]));
  const rows = [...fresh.children].map((row) => known.get(row.dataset.row) ?? row);
  for (const row of list.querySelectorAll("[data-row]")) if (!rows.includes(row)) row.remove();
  // A row in its place is not moved: it would lose the focus.
  rows.forEach((row, place) => {
    if (list.children[place] !== row) list.insertBefore(row, list.children[place] ?? null);
  });
}

async function refresh() {
  if (document.hidden) return;
  try {
    const response = await fetch(location.href, { credentials: "same-origin" });
    if (!response.ok) return;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    if (page.querySelector("[data-rows]")) replaceParts(page);
    else live.textContent = "You are signed out; load the page again.";
  } catch {
    // The state of the feed shows that the daemon does not answer, and when it does again.
  }
}

const soon = throttle(refresh, GAP);
const inbox = document.getElementById("content-main");
handleForms(inbox, soon);
listen(FEED, inbox.dataset.hints.split(" "), soon, { state: showStateIn(live) });
setInterval(soon, QUIET);
document.addEventListener("visibilitychange", soon);
