// The forms of a session's page: sent without leaving the page.

import { RequestError, csrfToken } from "./shared.js";

// Send a form, and return the answer of the daemon; throws a RequestError.
async function post(url, fields) {
  let response;
  try {
    response = await fetch(url, {
      method: "POST",
      body: fields,
      headers: { Accept: "application/json", "X-CSRFToken": csrfToken() },
      credentials: "same-origin",
    });
  } catch {
    throw new RequestError(0, "unreachable", "The daemon does not answer; nothing may have been done.");
  }
  const isJson = /\bjson\b/.test(response.headers.get("Content-Type") ?? "");
  const answer = isJson ? await response.json().catch(() => null) : null;
  if (response.ok && answer) return answer;
  throw new RequestError(response.status, answer?.code ?? "failed", answer?.detail ?? "Load the page again.");
}

export function markRead(url) {
  return post(url, new FormData()).catch(() => {});
}

export function showMessage(text, level) {
  let list = document.querySelector("ul.messagelist");
  if (!list) {
    list = document.createElement("ul");
    list.className = "messagelist";
    list.setAttribute("role", "status");
    document.getElementById("content-start").prepend(list);
  }
  const item = document.createElement("li");
  item.className = level;
  item.textContent = text;
  list.replaceChildren(item);
  list.classList.add("is-floating");
  clearTimeout(list.timer);
  list.timer = setTimeout(() => list.remove(), level === "error" ? 15_000 : 5_000);
}

async function runAction(form, submitter, done) {
  const buttons = form.querySelectorAll("button");
  buttons.forEach((button) => (button.disabled = true));
  // The fields leave out a disabled button, so it is added.
  const fields = new FormData(form);
  if (submitter?.name) fields.set(submitter.name, submitter.value);
  try {
    const { message, url } = await post(form.action, fields);
    // A part with an open `details` would not be replaced at the next refresh.
    form.closest("details")?.removeAttribute("open");
    if (url && new URL(url, location.href).pathname !== location.pathname) location.assign(url);
    else showMessage(message, "success");
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    showMessage(error.message, "error");
  } finally {
    buttons.forEach((button) => (button.disabled = false));
    done();
  }
}

async function send(form, submitter) {
  const isCancel = submitter?.hasAttribute("data-cancel");
  const text = form.elements.content;
  const problem = form.querySelector(".composer-error");
  if (form.ariaBusy === "true" || (!isCancel && !text.value.trim())) return;
  form.ariaBusy = "true";
  problem.hidden = true;
  try {
    const { message } = await post(isCancel ? submitter.formAction : form.action, new FormData(form));
    if (isCancel) showMessage(message, "success");
    else {
      text.value = "";
      fitHeight(text);
    }
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    problem.textContent = error.message;
    problem.hidden = false;
  } finally {
    form.ariaBusy = "false";
  }
}

function fitHeight(text) {
  text.style.height = "auto";
  text.style.height = `${Math.min(text.scrollHeight + 2, innerHeight * 0.4)}px`;
}

export function handleForms(page, done) {
  page.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.matches("[data-composer]")) {
      event.preventDefault();
      send(form, event.submitter);
    } else if (form.matches("[data-action]")) {
      event.preventDefault();
      runAction(form, event.submitter, done);
    }
  });
  page.addEventListener("keydown", (event) => {
    const form = event.target.closest?.("[data-composer]");
    if (!form || event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    form.requestSubmit(form.querySelector(".button:not([data-cancel])"));
  });
  page.addEventListener("input", ({ target }) => target.name === "content" && fitHeight(target));
}
