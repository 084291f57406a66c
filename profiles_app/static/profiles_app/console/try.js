// The panel that tries a profile: a scratch session through the API, with its answer as it arrives.

import { listen, request, showStateIn } from "../../sessions_app/console/shared.js";

// Control characters, and those that change the direction of a text.
const INVISIBLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

// Start the panel; the editor calls `unsaved(isChanged)` of the result.
export function tryOut(panel) {
  const part = (name) => panel.querySelector(`.try-${name}`);
  const form = part("form");
  const text = form.querySelector("textarea");
  const send = form.querySelector("button:not([type])");
  const hint = part("hint").textContent;
  let session = null;
  let stream = null;
  let answer = null;
  // Runs that have ended: a quick one ends before the request that began it is answered.
  const ended = new Set();

  form.hidden = false;
  const busy = (isBusy) => {
    send.disabled = isBusy;
    part("stop").hidden = !isBusy || !session;
    part("discard").hidden = isBusy || !session;
    part("transcript").setAttribute("aria-busy", String(isBusy));
  };
  const complain = (words) => {
    part("error").textContent = words;
    part("error").hidden = !words;
  };
  const add = (kind, words) => {
    const line = document.createElement("div");
    line.className = `try-line try-${kind}`;
    line.textContent = spelled(words);
    part("transcript").hidden = false;
    part("transcript").append(line);
    follow(part("transcript"));
    return line;
  };
  const grow = (kind, words) => {
    if (!answer?.classList.contains(`try-${kind}`)) answer = add(kind, "");
    answer.append(spelled(words));
    follow(part("transcript"));
  };

  const handlers = {
    assistant_message_start: () => (answer = null),
    content: (data) => grow("answer", data.content),
    "hook:thinking:delta": (data) => grow("thinking", data.hook_data.delta),
    "hook:tool:pre": (data) => (answer = add("note", `Calls ${data.hook_data.tool_name}.`)),
    "hook:approval:required": (data) =>
      add("note", `It waits for your approval: ${data.prompt} Open the session to give it.`),
    run_interrupted: () => add("note", "The worker was lost; its output so far is discarded."),
    execution_error: (data) => complain(data.error),
    execution_cancelled: () => add("note", "Stopped."),
    assistant_message_complete: (data) => {
      ended.add(data.runId);
      answer = null;
      busy(false);
    },
    session_ended: () => {
      stream?.close();
      reset("The session has ended. The next message creates another one.");
    },
  };

  const reset = (words) => {
    session = stream = answer = null;
    part("link").hidden = true;
    part("hint").textContent = words;
    panel.querySelector(".live").hidden = true;
    busy(false);
  };
  const begin = async () => {
    const body = {
      profile_name: panel.dataset.profile,
      name: `Try ${panel.dataset.profile}`,
      metadata: { scratch: true },
    };
    session = (await request(panel.dataset.sessions, { method: "POST", body })).sessionId;
    part("link").href = panel.dataset.page.replace("SESSION", session.replaceAll("_", "_5F"));
    part("link").hidden = false;
    await request(`${panel.dataset.sessions}/${session}/start`, { method: "POST" });
    const state = showStateIn(panel.querySelector(".live"));
    const handle = (name, data) => handlers[name](data);
    stream = listen(`${panel.dataset.sessions}/${session}/stream`, Object.keys(handlers), handle, { after: 0, state });
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const content = text.value;
    if (!content.trim()) return;
    complain("");
    busy(true);
    const question = add("question", content);
    try {
      if (!stream) await begin();
      const url = `${panel.dataset.sessions}/${session}/send-message`;
      const { runId } = await request(url, { method: "POST", body: { content } });
      text.value = "";
      busy(!ended.has(runId));
    } catch (error) {
      question.remove();
      complain(error.message);
      busy(false);
    }
  });
  text.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!send.disabled) form.requestSubmit();
  });
  const ask = async (tail, method) => {
    try {
      await request(`${panel.dataset.sessions}/${session}${tail}`, { method });
      return true;
    } catch (error) {
      complain(error.message);
      return false;
    }
  };
  part("stop").addEventListener("click", () => ask("/cancel-execution", "POST"));
  part("discard").addEventListener("click", async () => {
    if (!(await ask("", "DELETE"))) return;
    stream?.close();
    part("transcript").replaceChildren();
    part("transcript").hidden = true;
    complain("");
    reset(hint);
  });

  return {
    unsaved(isChanged) {
      if (session) return;
      part("hint").textContent = isChanged ? `${hint} What you changed is not in it yet.` : hint;
    },
  };
}

function spelled(text) {
  return text.replace(INVISIBLE, (char) => {
    return `⟨U+${char.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
}

// Keep the end in view, unless the user has scrolled back.
function follow(transcript) {
  if (transcript.scrollHeight - transcript.scrollTop - transcript.clientHeight < 80) transcript.scrollTop = transcript.scrollHeight;
}
