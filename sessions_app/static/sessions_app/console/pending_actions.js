// What runs wait for: the server renders it, and each part replaces its earlier version.

import { element, isAtEnd, parseHtml, scrollToEnd } from "./dom.js";
import { RequestError, request } from "./shared.js";

// Milliseconds until a failed request is tried again.
const PAUSE = 1500;

export class PendingActions {
  // `cardOf(runId)`: the card that a run has on the page, if it has one.
  constructor(url, cardOf) {
    this.url = url;
    this.cardOf = cardOf;
    // Runs that are being read; true if something has happened meanwhile.
    this.reading = new Map();
  }

  // Refresh a run; one request at a time, so that an older answer never comes later.
  async refresh(runId) {
    if (this.reading.has(runId)) {
      this.reading.set(runId, true);
      return;
    }
    do {
      this.reading.set(runId, false);
      if (!(await this.read(runId))) this.reading.set(runId, Boolean(this.cardOf(runId)));
    } while (this.reading.get(runId));
    this.reading.delete(runId);
  }

  // Return whether the run was read, or can never be read.
  async read(runId) {
    try {
      const found = await request(this.url.replace("RUN", encodeURIComponent(runId)));
      const card = this.cardOf(runId);
      if (card) this.show(card, found);
      return true;
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      if (error.status >= 400 && error.status < 500) return true;
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
      return false;
    }
  }

  show(card, { html, status, waits_for: waitsFor }) {
    const stick = isAtEnd();
    if (["running", "parked"].includes(status)) this.mark(card, status, waitsFor);
    const place = card.querySelector(".live-pending");
    for (const part of [...parseHtml(html).children]) replacePart(card, place, part);
    if (stick) scrollToEnd();
  }

  mark(card, status, waitsFor = "") {
    card.classList.toggle("is-parked", status === "parked");
    card.querySelector(".live-badge").replaceChildren(element("span", `badge badge-${status}`, status));
    card.querySelector(".live-waits-for").textContent = waitsFor;
  }
}

// A part that has not changed stays: somebody may be writing in it.
function replacePart(card, place, part) {
  const { key, status, callOf } = part.dataset;
  const old = card.querySelector(`[data-key="${CSS.escape(key)}"]`);
  if (old?.dataset.status === status) return;
  if (old) old.replaceWith(part);
  else {
    const call = callOf && card.querySelector(`[data-call="${CSS.escape(callOf)}"]`);
    (call || place).append(part);
  }
}
