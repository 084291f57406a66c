// The inbox of approvals, live: on a hint of the feed the page is fetched anew, and what has changed
// takes its place; what somebody is about to answer stays until it is answered.

import { serve } from "./acts.js";
import { FEED, calmly, listen, shownIn } from "./shared.js";

// Milliseconds between two looks, at least after a hint, and at most without one.
const GAP = 500;
const QUIET = 15_000;
const HINTS = ["connected", "approval_required", "session_updated", "session_deleted", "run_ended"];

const live = document.getElementById("live");

function take(page) {
  for (const part of document.querySelectorAll("[data-live]")) {
    const fresh = page.querySelector(`[data-live="${part.dataset.live}"]`);
    if (fresh && fresh.innerHTML !== part.innerHTML) part.replaceChildren(...fresh.childNodes);
  }
  for (const list of document.querySelectorAll("[data-rows]")) {
    takeRows(list, page.querySelector(`[data-rows="${list.dataset.rows}"]`));
  }
}

function takeRows(list, fresh) {
  const known = new Map([...list.children].map((row) => [row.dataset.row, row]));
  const rows = [...fresh.children].map((row) => known.get(row.dataset.row) ?? row);
  for (const row of list.querySelectorAll("[data-row]")) if (!rows.includes(row)) row.remove();
  // One that stands where it belongs is not moved: it would lose the focus.
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
    if (page.querySelector("[data-rows]")) take(page);
    else live.textContent = "You are signed out; load the page again.";
  } catch {
    // The feed says that the daemon is away, and when it is back.
  }
}

const soon = calmly(refresh, GAP);
serve(document.getElementById("content-main"), soon);
listen(FEED, HINTS, soon, { state: shownIn(live) });
setInterval(soon, QUIET);
document.addEventListener("visibilitychange", soon);
