// The lists of sessions and runs: filters that apply at once, selection, the menus of rows, and rows
// that are kept up to date. Without this module everything works through its forms.

import { FEED, HINTS, listen, request, showStateIn, throttle } from "./shared.js";

// Milliseconds between two requests.
const GAP = 1500;

const page = document.querySelector(".listing");
const filters = page.querySelector(".list-filters");
document.documentElement.classList.add("is-scripted");

// Filters: a choice is applied at once; empty ones are left out of the address.

function apply() {
  const address = new URLSearchParams();
  for (const [name, value] of new FormData(filters)) if (value) address.append(name, value);
  if (address.get("period") !== "chosen") ["since", "until"].forEach((name) => address.delete(name));
  location.search = address;
}

filters.addEventListener("submit", (event) => {
  event.preventDefault();
  apply();
});
filters.addEventListener("change", ({ target }) => {
  const moments = filters.querySelector(".list-moments");
  if (target.name === "period") moments.classList.toggle("is-idle", target.value !== "chosen");
  const isReady = target.tagName === "SELECT" && target.value !== "chosen";
  if (isReady || target.type === "checkbox") apply();
});

// If the row of statuses has no room for all, the chosen one is scrolled into view.
page.querySelector(".list-statuses [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });

// Selection

const all = page.querySelector(".list-all");
const across = page.querySelector("[name=select_across]");
const boxes = () => [...page.querySelectorAll("[name=_selected_action]")];

function showSelected() {
  const chosen = boxes().filter((box) => box.checked).length;
  const count = page.querySelector(".list-selected");
  if (count) count.textContent = across?.checked || !chosen ? "" : `${chosen} selected`;
  if (all) all.checked = chosen > 0 && chosen === boxes().length;
  if (all) all.indeterminate = chosen > 0 && !all.checked;
}

if (all) all.hidden = false;
let latest = null;
page.addEventListener("click", (event) => {
  const box = event.target.closest("[name=_selected_action]");
  if (!box) return;
  // With Shift, everything from the last one on.
  const list = boxes();
  if (event.shiftKey && latest?.isConnected) {
    const [from, to] = [list.indexOf(latest), list.indexOf(box)].sort((one, other) => one - other);
    list.slice(from, to + 1).forEach((each) => (each.checked = box.checked));
  }
  latest = box;
});
page.addEventListener("change", ({ target }) => {
  if (target === all) boxes().forEach((box) => (box.checked = all.checked));
  showSelected();
});

// Menus: beside the button that opened them, within the window; arrow keys move through them.

page.addEventListener(
  "toggle",
  ({ target: menu, newState }) => {
    if (!menu.matches?.(".row-menu") || newState !== "open") return;
    const button = page.querySelector(`[popovertarget="${menu.id}"]`).getBoundingClientRect();
    const { width, height } = menu.getBoundingClientRect();
    const below = button.bottom + height + 8 <= innerHeight;
    menu.style.margin = "0";
    menu.style.inset = "auto";
    menu.style.left = `${Math.max(8, button.right - width)}px`;
    menu.style.top = `${Math.max(8, below ? button.bottom + 2 : button.top - height - 2)}px`;
    menu.querySelector("a, button").focus();
  },
  true,
);
page.addEventListener("keydown", (event) => {
  const menu = event.target.closest?.(".row-menu");
  const offset = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!menu || !offset) return;
  const items = [...menu.querySelectorAll("a, button")];
  items[(items.indexOf(event.target) + offset + items.length) % items.length].focus();
  event.preventDefault();
});
addEventListener("scroll", () => page.querySelector(".row-menu:popover-open")?.hidePopover(), { passive: true });

// Changes: rows that changed are fetched again, new ones are announced.

const rowOf = (id) => page.querySelector(`tr[data-id="${CSS.escape(id)}"]`);
const changed = new Set();
const gone = new Set();
let isFirstConnection = true;

function replaceRow(id, html) {
  const row = rowOf(id);
  if (!row || row.querySelector(":popover-open")) return;
  const template = document.createElement("template");
  template.innerHTML = html;
  const fresh = template.content.querySelector("tr");
  const place = row.querySelector(".place");
  if (place) fresh.querySelector(".list-name").append(place);
  const box = fresh.querySelector("[name=_selected_action]");
  if (box) box.checked = row.querySelector("[name=_selected_action]").checked;
  if (fresh.isEqualNode(row)) return;
  const focused = row.contains(document.activeElement) ? document.activeElement : null;
  const index = focused ? [...row.querySelectorAll("a, button, input")].indexOf(focused) : -1;
  row.replaceWith(fresh);
  fresh.classList.add("is-changed");
  if (index >= 0) fresh.querySelectorAll("a, button, input")[index]?.focus();
}

function strikeOut(id) {
  const row = rowOf(id);
  row?.classList.add("is-gone");
  row?.querySelectorAll("input, button").forEach((each) => (each.disabled = true));
}

function announce(news) {
  const banner = page.querySelector(".list-news");
  const noun = `${page.dataset.list}${news === "1" ? "" : "s"}`;
  banner.hidden = !news;
  banner.firstElementChild.textContent = news ? `${news} new ${noun} – show` : "";
}

async function refresh() {
  const ids = [...changed].filter((id) => rowOf(id) && !gone.has(id));
  changed.clear();
  const url = new URL(page.dataset.changes, location.href);
  url.searchParams.delete("q");
  url.searchParams.set("ids", ids.join(",") || "none");
  if (page.dataset.top) url.searchParams.set("top", page.dataset.top);
  try {
    const { rows, news } = await request(url);
    for (const id of ids) {
      if (rows[id]) replaceRow(id, rows[id]);
      else strikeOut(id);
    }
    if ("first" in page.dataset) announce(news);
  } catch (error) {
    if (error.status !== 0) return;
    ids.forEach((id) => changed.add(id));
  }
  showSelected();
}

const refreshSoon = throttle(refresh, GAP);

function handleHint(name, data) {
  if (name === "connected") {
    // The page has just been loaded: its rows are up to date.
    if (!isFirstConnection) page.querySelectorAll("tr[data-id]").forEach((row) => changed.add(row.dataset.id));
    isFirstConnection = false;
  } else if (name === "session_deleted") {
    gone.add(data.sessionId);
    strikeOut(data.sessionId);
    return;
  } else {
    changed.add(page.dataset.list === "run" ? (data.runId ?? "") : data.sessionId);
  }
  refreshSoon();
}

// A hidden page has no stream.
let feed = null;
function follow() {
  feed?.close();
  feed = null;
  if (!document.hidden) feed = listen(FEED, HINTS, handleHint, { state: showStateIn(page.querySelector(".live")) });
}
document.addEventListener("visibilitychange", follow);
addEventListener("pagehide", () => feed?.close());
addEventListener("pageshow", ({ persisted }) => persisted && follow());
follow();
showSelected();
