// What the console's modules share: requests to the daemon, its event streams, and times.

// The path of the API, which is below a prefix where a proxy gives the daemon one.
export const API = document.querySelector("meta[name=api]")?.content ?? "/api/v1";
// Live hints about all sessions, and their names.
export const FEED = `${API}/events/stream`;
export const HINTS = document.querySelector("meta[name=hints]")?.content.split(" ") ?? [];

// An error answer of the daemon, with its own explanation.
export class RequestError extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

// The token that lets our own pages write; every page has it in the form that logs out.
export function csrfToken() {
  return document.querySelector("input[name=csrfmiddlewaretoken]")?.value ?? "";
}

// Send a request, with `body` as JSON, and return the JSON of the answer, null if there is none.
// Throws a RequestError with the explanation of the daemon, or that it could not be reached.
export async function request(url, { method = "GET", body, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRFToken"] = csrfToken();
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const options = { method, headers, signal, credentials: "same-origin" };
  if (body !== undefined) options.body = JSON.stringify(body);
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new RequestError(0, "unreachable", "The daemon does not answer.");
  }
  const isJson = /\bjson\b/.test(response.headers.get("Content-Type") ?? "");
  const answer = isJson ? await response.json().catch(() => null) : null;
  if (response.ok && (isJson || response.status === 204)) return answer;
  if (response.ok) throw new RequestError(401, "signed_out", "You are signed out; load the page again.");
  throw new RequestError(response.status, answer?.code ?? "failed", answer?.detail ?? response.statusText);
}

// Milliseconds: the first and the longest wait before a stream is opened again, and the silence
// after which it counts as broken. The daemon sends something every 15 s.
const FIRST_WAIT = 500;
const LONGEST_WAIT = 15_000;
const SILENCE = 60_000;

// Follow an event stream until `close()` is called on what is returned; reconnect if it breaks.
//
// `names`: the events to handle; `onEvent(name, data, id)` is called with each, its data parsed.
// `after`: the cursor to begin after; a new connection begins after the last id received.
// `epoch`: that of the cursor; the daemon refuses one of another epoch.
// `state(word)`: is called with "connecting", "live" or "waiting" (to reconnect) as that changes.
export function listen(url, names, onEvent, { after = null, epoch = "", state = () => {} } = {}) {
  let source = null;
  let timer = 0;
  let silence = 0;
  let wait = FIRST_WAIT;
  let cursor = after;
  let word = "";

  const setState = (now) => {
    if (now !== word) state((word = now));
  };
  const reconnect = () => {
    source?.close();
    clearTimeout(silence);
    clearTimeout(timer);
    setState("waiting");
    timer = setTimeout(open, wait * (0.75 + Math.random() / 2));
    wait = Math.min(wait * 2, LONGEST_WAIT);
  };
  const alive = () => {
    clearTimeout(silence);
    silence = setTimeout(reconnect, SILENCE);
  };
  const open = () => {
    setState("connecting");
    const target = new URL(url, location.href);
    if (cursor !== null) target.searchParams.set("after", cursor);
    if (epoch) target.searchParams.set("epoch", epoch);
    source = new EventSource(target);
    source.onopen = () => {
      wait = FIRST_WAIT;
      setState("live");
      alive();
    };
    // A browser stops reconnecting at an answer such as 503, so we reconnect ourselves.
    source.onerror = reconnect;
    for (const name of new Set([...names, "connected", "keepalive"])) {
      source.addEventListener(name, (event) => {
        alive();
        if (event.lastEventId) cursor = event.lastEventId;
        if (names.includes(name)) onEvent(name, parseJson(event.data), event.lastEventId);
      });
    }
    alive();
  };
  const close = () => {
    clearTimeout(timer);
    clearTimeout(silence);
    source?.close();
    state = () => {};
  };
  open();
  return { close };
}

function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

const WORDS = { connecting: "Connecting", live: "Live", waiting: "Reconnecting" };

// Return a `state` for `listen` that shows it in an element of the class `live`.
export function showStateIn(element) {
  return (word) => {
    if (!element) return;
    element.hidden = false;
    element.dataset.state = word;
    element.textContent = WORDS[word] ?? word;
  };
}

// Call `work` soon after each of many calls, at most once in `gap` milliseconds, never twice at once.
export function throttle(work, gap) {
  let wanted = false;
  let busy = false;
  const run = async () => {
    busy = true;
    while (wanted) {
      wanted = false;
      const pause = new Promise((resolve) => setTimeout(resolve, gap));
      await work();
      await pause;
    }
    busy = false;
  };
  return () => {
    wanted = true;
    if (!busy) run();
  };
}

const UNITS = [
  [86_400, "d", 3600, "h"],
  [3600, "h", 60, "min"],
  [60, "min", 1, "s"],
];

// Return a duration in its two largest units, as the server writes it: 0.4 s, 12 s, 3 min 20 s.
export function formatDuration(seconds) {
  if (seconds === null || seconds === undefined) return "—";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.floor(seconds);
  for (const [size, unit, part, rest] of UNITS) {
    if (whole >= size) {
      return `${Math.floor(whole / size)} ${unit} ${Math.floor((whole % size) / part)} ${rest}`;
    }
  }
  return `${whole} s`;
}

// Return a time of the daemon (ISO 8601) in UTC to the second, as the server writes it.
export function formatTime(iso) {
  return iso ? new Date(iso).toISOString().slice(0, 19).replace("T", " ") : "—";
}
