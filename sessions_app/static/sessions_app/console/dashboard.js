// The dashboard, live: on a hint of the feed the page is fetched anew, and what changed is taken
// over. The server writes all of it; only the charts are drawn here.

import { draw } from "./charts.js";
import { FEED, calmly, listen, shownIn } from "./shared.js";

// Milliseconds between two looks, at least after a hint, and at most without one.
const GAP = 1000;
const QUIET = 10_000;
const HINTS = [
  "connected",
  "session_created",
  "session_updated",
  "session_deleted",
  "run_started",
  "run_ended",
  "approval_required",
];

const live = document.getElementById("live");
const show = shownIn(live);

function redraw() {
  draw(JSON.parse(document.getElementById("series").textContent));
}

// Take over what changed; a part that has the focus stays until it has it no longer.
function take(page) {
  let changed = false;
  for (const part of document.querySelectorAll("[data-live]")) {
    const fresh = page.querySelector(`[data-live="${part.dataset.live}"]`);
    if (!fresh || fresh.innerHTML === part.innerHTML) continue;
    if (part.contains(document.activeElement)) continue;
    part.replaceChildren(...fresh.childNodes);
    changed ||= part.dataset.live === "series";
  }
  if (changed) redraw();
}

async function refresh() {
  if (document.hidden) return;
  try {
    const response = await fetch(location.href, { credentials: "same-origin" });
    if (!response.ok) return;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    if (page.getElementById("series")) take(page);
    else live.textContent = "You are signed out; load the page again.";
  } catch {
    // The feed says that the daemon is away, and when it is back.
  }
}

const soon = calmly(refresh, GAP);
redraw();
listen(FEED, HINTS, soon, { state: show });
setInterval(soon, QUIET);
document.addEventListener("visibilitychange", soon);
