// What runs wait for: the server renders it, each part takes the place of what it was before.

import { element, isAtEnd, parsed, toEnd } from "./dom.js";
import { Refusal, request } from "./shared.js";

// Milliseconds until a look that failed is tried again.
const PAUSE = 1500;

export class Waits {
  // `cardOf(runId)`: the card that a run has on the page, if it has one.
  constructor(url, cardOf) {
    this.url = url;
    this.cardOf = cardOf;
    // Runs that are being looked at; true where something has happened meanwhile.
    this.looking = new Map();
  }

  // Look at a run, once at a time, so that what is older never comes later.
  async look(runId) {
    if (this.looking.has(runId)) {
      this.looking.set(runId, true);
      return;
    }
    do {
      this.looking.set(runId, false);
      if (!(await this.read(runId))) this.looking.set(runId, Boolean(this.cardOf(runId)));
    } while (this.looking.get(runId));
    this.looking.delete(runId);
  }

  // Tell whether the run was read, or is not to be read at all.
  async read(runId) {
    try {
      const found = await request(this.url.replace("RUN", encodeURIComponent(runId)));
      const card = this.cardOf(runId);
      if (card) this.show(card, found);
      return true;
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      if (error.status >= 400 && error.status < 500) return true;
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
      return false;
    }
  }

  show(card, { html, status, waits_for: waitsFor }) {
    const stick = isAtEnd();
    if (["running", "parked"].includes(status)) this.mark(card, status, waitsFor);
    const place = card.querySelector(".live-waits");
    for (const part of [...parsed(html).children]) take(card, place, part);
    if (stick) toEnd();
  }

  mark(card, status, waitsFor = "") {
    card.classList.toggle("is-parked", status === "parked");
    card.querySelector(".live-badge").replaceChildren(element("span", `badge badge-${status}`, status));
    card.querySelector(".live-waits-for").textContent = waitsFor;
  }
}

// A part that is as it was stays: somebody may be writing in it.
function take(card, place, part) {
  const { key, status, callOf } = part.dataset;
  const old = card.querySelector(`[data-key="${CSS.escape(key)}"]`);
  if (old?.dataset.status === status) return;
  if (old) old.replaceWith(part);
  else {
    const call = callOf && card.querySelector(`[data-call="${CSS.escape(callOf)}"]`);
    (call || place).append(part);
  }
}
