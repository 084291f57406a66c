// The output of open runs: their events, applied once each and in order, to one card for each run.

import { announce, cloneTemplate, element, isAtEnd, scrollToEnd, visible } from "./dom.js";
import { PendingActions } from "./pending_actions.js";

// Characters after which a new block begins at the next line break: to add to a long one is slow.
const BLOCK = 2000;

export class LiveRuns {
  constructor(page, transcript, changed) {
    this.transcript = transcript;
    // Event → the name of its class in events.py, which the method `on…` that handles it is named
    // after; and whether it is output of a run.
    this.events = JSON.parse(page.dataset.events);
    // Why an answer ended → what to announce of one that is not whole.
    this.cutOff = JSON.parse(page.dataset.cutOff);
    this.pending = new PendingActions(page.dataset.pending, (runId) => this.card(runId));
    this.place = document.getElementById("live");
    this.changed = changed;
    this.pieces = [];
    this.frame = 0;
  }

  get isRunning() {
    return Boolean(this.place.firstElementChild);
  }

  handle(name, data) {
    const { event, isOutput } = this.events[name] ?? {};
    const method = this[`on${event}`];
    if (!method) return;
    if (!isOutput) this.flush();
    return method.call(this, data);
  }

  card(runId) {
    return this.place.querySelector(`[data-run="${CSS.escape(runId)}"]`);
  }

  cardFor(runId) {
    let card = this.card(runId);
    if (!card) {
      card = cloneTemplate("live-template");
      card.dataset.run = runId;
      this.place.append(card);
    }
    return card;
  }

  onAssistantMessageStart({ runId, attempt, timestamp }) {
    const stick = isAtEnd();
    const card = this.cardFor(runId);
    // If the page was loaded during this attempt, the card has its output already.
    if (card.dataset.attempt !== String(attempt)) clear(card);
    card.dataset.attempt = attempt;
    card.querySelector(".live-attempt").textContent = attempt > 1 ? `attempt ${attempt}` : "";
    this.pending.mark(card, "running");
    card.querySelector(".live-time").dataset.since = timestamp;
    document.querySelector(`.message[data-run="${CSS.escape(runId)}"] [data-waiting]`)?.remove();
    this.changed();
    if (stick) scrollToEnd();
  }

  onContent({ runId, content }) {
    this.add(runId, ".live-text", content);
  }

  onThinkingDelta({ runId, hook_data: data }) {
    this.add(runId, ".live-thinking", data?.delta ?? "");
  }

  // Text is collected until the next frame is painted.
  add(runId, place, text) {
    const newest = this.pieces.at(-1);
    if (newest?.runId === runId && newest.place === place) newest.text += text;
    else this.pieces.push({ runId, place, text });
    this.frame ||= requestAnimationFrame(() => this.flush());
  }

  flush() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    if (!this.pieces.length) return;
    const stick = isAtEnd();
    for (const { runId, place, text } of this.pieces.splice(0)) {
      const target = this.cardFor(runId).querySelector(place);
      grow(target, visible(text));
      const details = target.closest("details");
      if (details) details.hidden = false;
    }
    if (stick && this.transcript.isAtNewest) scrollToEnd();
  }

  onToolPre({ runId, hook_data: data }) {
    const { tool_call_id: id, tool_name: name, tool_input: input } = data ?? {};
    const card = this.cardFor(runId);
    let call = [...card.querySelectorAll("[data-call]")].find((one) => one.dataset.call === id);
    if (!call) {
      call = cloneTemplate("call-template");
      call.dataset.call = id ?? "";
      card.querySelector(".live-calls").append(call);
    }
    call.querySelector(".call-name").textContent = visible(name ?? "tool");
    if (input !== undefined) call.querySelector(".call-input").textContent = format(input);
    return call;
  }

  onToolPost(data) {
    const call = this.onToolPre(data);
    const { tool_response: output, error } = data.hook_data ?? {};
    if (output !== undefined && output !== null) {
      call.querySelector(".call-answer").hidden = false;
      call.querySelector(".call-output").textContent = format(output);
    }
    if (error) {
      call.classList.add("is-failed");
      call.querySelector(".call-error").hidden = false;
      call.querySelector(".call-error").textContent = format(error);
    }
  }

  onProviderRetry({ runId, error, delay }) {
    this.note(runId, `The provider is asked again in ${delay} s: ${error}`);
  }

  // The output of the attempt is void: it can still be read, folded and struck through.
  onRunInterrupted({ runId, attempt }) {
    const card = this.cardFor(runId);
    const text = card.querySelector(".live-text").textContent;
    const fold = element("details", "void");
    fold.append(element("summary", "", `Attempt ${attempt} was interrupted: its output is void`));
    fold.append(element("del", "written", text || "It had no output."));
    card.querySelector(".live-void").append(fold);
    clear(card);
    card.dataset.attempt = "";
    card.querySelector(".live-attempt").textContent = "the next attempt follows";
    announce("The worker was interrupted; the next attempt follows.");
  }

  onExecutionError({ runId, error, code }) {
    this.note(runId, `The run failed: ${code}: ${error}`);
    announce("The run failed.");
  }

  onExecutionCancelled({ runId }) {
    this.note(runId, "The run was cancelled");
  }

  // A tool call waits for an answer, or has one: the server renders which.
  onApprovalRequired({ runId }) {
    this.cardFor(runId);
    this.pending.refresh(runId);
    announce("A tool waits for your answer.");
  }

  onApprovalResolved({ runId }) {
    if (this.card(runId)) this.pending.refresh(runId);
  }

  onRunParked({ runId }) {
    this.pending.mark(this.cardFor(runId), "parked");
    this.pending.refresh(runId);
    this.changed();
  }

  // The run continues from where it stopped: none of its output is void.
  onRunResumed({ runId, attempt }) {
    const card = this.cardFor(runId);
    card.dataset.attempt = attempt;
    this.pending.mark(card, "running");
    this.pending.refresh(runId);
    this.changed();
  }

  onProviderFallback({ runId, provider, next, error }) {
    const instead = next ? `; ${next} is asked instead` : "";
    this.note(runId, `${provider ?? "A provider"} failed${instead}${error ? `: ${error}` : ""}`);
  }

  onContextCompacted({ runId, upto }) {
    this.note(runId, `A summary stands for the messages up to ${upto} from now on`);
  }

  onRunNotice({ runId, message }) {
    this.note(runId, message);
  }

  note(runId, text) {
    const notes = this.cardFor(runId).querySelector(".live-notes");
    notes.append(element("p", "run-note", visible(text)));
  }

  // The answer is complete: a message replaces the card.
  async onAssistantMessageComplete(data) {
    const stick = isAtEnd();
    const card = this.card(data.runId);
    const voids = card?.querySelector(".live-void");
    if (data.messageId) {
      await this.transcript.add(data, () => card?.remove());
      const message = this.transcript.find(data.seq);
      if (voids?.hasChildNodes()) message?.querySelector("header")?.after(voids);
    } else {
      card?.remove();
      const asked = document.querySelector(`.message[data-run="${CSS.escape(data.runId)}"]`);
      if (asked) await this.transcript.render(asked.dataset.seq);
    }
    if (!data.outcome) announce(`${this.cutOff[data.finishReason] ?? "The answer is complete"}.`);
    this.changed();
    if (stick && this.transcript.isAtNewest) scrollToEnd();
  }

  onUserMessageSaved(data) {
    return this.onMessageAdded(data);
  }

  async onMessageAdded(data) {
    const stick = isAtEnd();
    await this.transcript.add(data, () => stick && scrollToEnd());
    this.changed();
    if (stick && this.transcript.isAtNewest) scrollToEnd();
  }
}

function clear(card) {
  for (const place of [".live-text", ".live-thinking", ".live-calls", ".live-notes"]) {
    card.querySelector(place).replaceChildren();
  }
  card.querySelector(".thinking").hidden = true;
}

function grow(target, text) {
  let block = target.lastElementChild;
  const from = block && block.textContent.length > BLOCK ? text.indexOf("\n") + 1 : 0;
  if (!block || from > 0) {
    block?.append(text.slice(0, from));
    const rest = block ? text.slice(from) : text;
    // The server rendered the text without blocks.
    if (!block && target.firstChild) {
      block = element("div", "");
      block.append(...target.childNodes);
      target.append(block);
      block.append(rest);
    } else {
      block = element("div", "", rest);
      target.append(block);
    }
  } else {
    const end = block.lastChild;
    if (end?.nodeType === Node.TEXT_NODE) end.appendData(text);
    else block.append(text);
  }
}

function format(value) {
  return visible(typeof value === "string" ? value : JSON.stringify(value, null, 2));
}
