// The dashboard, live: on a hint of the feed the page is fetched again, and what has changed is
// replaced. The server renders all of it; only the charts are drawn here.

import { draw } from "./charts.js";
import { FEED, HINTS, listen, showStateIn, throttle } from "./shared.js";

// Milliseconds between two requests: at least, after a hint; at most, without one.
const GAP = 1000;
const QUIET = 10_000;

const live = document.getElementById("live");
const show = showStateIn(live);

function redraw() {
  draw(JSON.parse(document.getElementById("series").textContent));
}

// Replace what has changed; a part that has the focus stays until it loses it.
function replaceParts(page) {
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
    if (page.getElementById("series")) replaceParts(page);
    else live.textContent = "You are signed out; load the page again.";
  } catch {
    // The state of the feed shows that the daemon does not answer, and when it does again.
  }
}

const soon = throttle(refresh, GAP);
redraw();
listen(FEED, HINTS, soon, { state: show });
setInterval(soon, QUIET);
document.addEventListener("visibilitychange", soon);
