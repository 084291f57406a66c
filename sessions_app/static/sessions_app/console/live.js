// What runs are saying: their events, applied once each and in order, to one card for each run.

import { copyOf, element, isAtEnd, tell, toEnd, visible } from "./dom.js";
import { Waits } from "./waits.js";

// Characters after which a new block begins at the next line break: to add to a long one is slow.
const BLOCK = 2000;

export class Live {
  constructor(page, talk, changed) {
    this.talk = talk;
    this.waits = new Waits(page.dataset.waits, (runId) => this.card(runId));
    this.place = document.getElementById("live");
    this.changed = changed;
    this.pieces = [];
    this.frame = 0;
  }

  get isRunning() {
    return Boolean(this.place.firstElementChild);
  }

  heard(name, data) {
    const act = this[HANDLERS[name]];
    if (!act) return;
    if (!name.startsWith("content") && !name.startsWith("hook:thinking")) this.flush();
    act.call(this, data);
  }

  card(runId) {
    return this.place.querySelector(`[data-run="${CSS.escape(runId)}"]`);
  }

  cardFor(runId) {
    let card = this.card(runId);
    if (!card) {
      card = copyOf("live-template");
      card.dataset.run = runId;
      this.place.append(card);
    }
    return card;
  }

  begun({ runId, attempt, timestamp }) {
    const stick = isAtEnd();
    const card = this.cardFor(runId);
    // An attempt that the page was loaded in the middle of is begun already.
    if (card.dataset.attempt !== String(attempt)) empty(card);
    card.dataset.attempt = attempt;
    card.querySelector(".live-attempt").textContent = attempt > 1 ? `attempt ${attempt}` : "";
    this.waits.mark(card, "running");
    card.querySelector(".live-time").dataset.since = timestamp;
    document.querySelector(`.message[data-run="${CSS.escape(runId)}"] [data-waiting]`)?.remove();
    this.changed();
    if (stick) toEnd();
  }

  said({ runId, content }) {
    this.add(runId, ".live-said", content);
  }

  thought({ runId, hook_data: data }) {
    this.add(runId, ".live-thinking", data?.delta ?? "");
  }

  // Text is gathered until the next frame is painted.
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
    if (stick && this.talk.isAtNewest) toEnd();
  }

  called({ runId, hook_data: data }) {
    const { tool_call_id: id, tool_name: name, tool_input: input } = data ?? {};
    const card = this.cardFor(runId);
    let call = [...card.querySelectorAll("[data-call]")].find((one) => one.dataset.call === id);
    if (!call) {
      call = copyOf("call-template");
      call.dataset.call = id ?? "";
      card.querySelector(".live-calls").append(call);
    }
    call.querySelector(".call-name").textContent = visible(name ?? "tool");
    if (input !== undefined) call.querySelector(".call-input").textContent = shown(input);
    return call;
  }

  answered(data) {
    const call = this.called(data);
    const { tool_response: output, error } = data.hook_data ?? {};
    if (output !== undefined && output !== null) {
      call.querySelector(".call-answer").hidden = false;
      call.querySelector(".call-output").textContent = shown(output);
    }
    if (error) {
      call.classList.add("is-failed");
      call.querySelector(".call-error").hidden = false;
      call.querySelector(".call-error").textContent = shown(error);
    }
  }

  retried({ runId, error, delay }) {
    this.note(runId, `The provider is asked again in ${delay} s: ${error}`);
  }

  // What the attempt said is void: it stays to be read, folded and struck.
  interrupted({ runId, attempt }) {
    const card = this.cardFor(runId);
    const text = card.querySelector(".live-said").textContent;
    const fold = element("details", "void");
    fold.append(element("summary", "", `Attempt ${attempt} was interrupted: what it said is void`));
    fold.append(element("del", "written", text || "It had said nothing."));
    card.querySelector(".live-void").append(fold);
    empty(card);
    card.dataset.attempt = "";
    card.querySelector(".live-attempt").textContent = "the next attempt follows";
    tell("The worker was interrupted; the next attempt follows.");
  }

  failed({ runId, error, code }) {
    this.note(runId, `The run failed: ${code}: ${error}`);
    tell("The run failed.");
  }

  cancelled({ runId }) {
    this.note(runId, "The run was cancelled");
  }

  // A tool asks for somebody's word, or has it: how that stands is read from the server.
  asked({ runId }) {
    this.cardFor(runId);
    this.waits.look(runId);
    tell("A tool waits for your answer.");
  }

  answeredFor({ runId }) {
    if (this.card(runId)) this.waits.look(runId);
  }

  parked({ runId }) {
    this.waits.mark(this.cardFor(runId), "parked");
    this.waits.look(runId);
    this.changed();
  }

  // It goes on where it stopped: nothing that was said is void.
  resumed({ runId, attempt }) {
    const card = this.cardFor(runId);
    card.dataset.attempt = attempt;
    this.waits.mark(card, "running");
    this.waits.look(runId);
    this.changed();
  }

  fellBack({ runId, provider, next, error }) {
    const instead = next ? `; ${next} is asked instead` : "";
    this.note(runId, `${provider ?? "A provider"} failed${instead}${error ? `: ${error}` : ""}`);
  }

  compacted({ runId, upto }) {
    this.note(runId, `A summary stands for the messages up to ${upto} from now on`);
  }

  noticed({ runId, message }) {
    this.note(runId, message);
  }

  note(runId, text) {
    const notes = this.cardFor(runId).querySelector(".live-notes");
    notes.append(element("p", "run-note", visible(text)));
  }

  // The answer is complete: a message takes the place of the card.
  async complete(data) {
    const stick = isAtEnd();
    const card = this.card(data.runId);
    const voids = card?.querySelector(".live-void");
    if (data.messageId) {
      await this.talk.take(data, () => card?.remove());
      const message = this.talk.find(data.seq);
      if (voids?.hasChildNodes()) message?.querySelector("header")?.after(voids);
    } else {
      card?.remove();
      const asked = document.querySelector(`.message[data-run="${CSS.escape(data.runId)}"]`);
      if (asked) await this.talk.render(asked.dataset.seq);
    }
    if (!data.outcome) tell(CUT_OFF[data.finishReason] ?? "The answer is complete.");
    this.changed();
    if (stick && this.talk.isAtNewest) toEnd();
  }

  async added(data) {
    const stick = isAtEnd();
    await this.talk.take(data, () => stick && toEnd());
    this.changed();
    if (stick && this.talk.isAtNewest) toEnd();
  }
}

// What is told of an answer that is not whole, by why it ended; the message says it in full.
const CUT_OFF = {
  length: "The answer was cut off: it reached its token limit.",
  content_filter: "The answer was cut off by the provider's content filter.",
  tool_calls: "The answer was cut off: it ended with tool calls that were not made.",
};

const HANDLERS = {
  message_added: "added",
  user_message_saved: "added",
  assistant_message_start: "begun",
  content: "said",
  "hook:thinking:delta": "thought",
  "hook:tool:pre": "called",
  "hook:tool:post": "answered",
  provider_retry: "retried",
  provider_fallback: "fellBack",
  context_compacted: "compacted",
  run_notice: "noticed",
  "hook:approval:required": "asked",
  approval_resolved: "answeredFor",
  run_parked: "parked",
  run_resumed: "resumed",
  run_interrupted: "interrupted",
  execution_error: "failed",
  execution_cancelled: "cancelled",
  assistant_message_complete: "complete",
};

function empty(card) {
  for (const place of [".live-said", ".live-thinking", ".live-calls", ".live-notes"]) {
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
    // What the server rendered stands there as text.
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

function shown(value) {
  return visible(typeof value === "string" ? value : JSON.stringify(value, null, 2));
}
