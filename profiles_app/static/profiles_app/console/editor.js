// The editor of a profile: a text field with its lines behind it, checked while the user types.

import { request } from "../../sessions_app/console/shared.js";
import { Lines } from "./lines.js";

// Milliseconds without a key until the text is checked.
const PAUSE = 350;

// Start an editor's form. It calls `onChange(isChanged)`: whether there is something to save.
export function edit(form, onChange) {
  const field = form.elements.text;
  const saved = field.defaultValue;
  const report = form.querySelector(".mistakes");
  const lines = linesBehind(field);
  let timer = 0;
  let asked = null;
  let isLeaving = false;

  const show = (mistakes) => {
    lines.mark(new Map(mistakes.map((one) => [one.line, one.is_grave ? "is-wrong" : "is-mild"])));
    field.setAttribute("aria-invalid", String(mistakes.some((one) => one.is_grave)));
    tell(report, mistakes, (line) => goTo(field, lines, line));
  };
  const check = async () => {
    asked?.abort();
    asked = new AbortController();
    const options = { method: "POST", body: { text: field.value }, signal: asked.signal };
    try {
      show((await request(form.dataset.check, options)).mistakes);
    } catch (error) {
      if (error.name !== "AbortError") say(report, `Not checked. ${error.message}`);
    }
  };

  field.addEventListener("input", () => {
    lines.show(field.value);
    lines.mark(lines.marks);
    onChange(field.value !== saved);
    asked?.abort();
    clearTimeout(timer);
    timer = setTimeout(check, PAUSE);
  });
  form.addEventListener("submit", () => (isLeaving = true));
  form.addEventListener("keydown", (event) => {
    if (event.key === "s" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  addEventListener("beforeunload", (event) => {
    if (!isLeaving && field.value !== saved) event.preventDefault();
  });

  show(adopted(report));
  onChange(field.value !== saved);
  // A browser may have kept what was typed before the page was loaded again.
  if (field.value !== saved) check();
}

// Put the lines of a field behind it; the field's own text becomes transparent.
function linesBehind(field) {
  const behind = document.createElement("div");
  behind.setAttribute("aria-hidden", "true");
  field.before(behind);
  field.parentElement.classList.add("is-live");
  const lines = new Lines(behind);
  lines.show(field.value);
  return lines;
}

// Return the mistakes that the page came with.
function adopted(report) {
  return [...report.querySelectorAll("li")].map((item) => ({
    line: Number(item.dataset.line),
    detail: item.querySelector("span").textContent,
    is_grave: !item.classList.contains("is-mild"),
    quoted: item.querySelector("code")?.textContent ?? "",
  }));
}

// List the mistakes, each with a button that leads to its line.
function tell(report, mistakes, lead) {
  if (mistakes.length === 0) {
    if (report.querySelector("ol") || report.dataset.said) say(report, "No mistakes found.");
    return;
  }
  const list = document.createElement("ol");
  for (const { line, detail, is_grave: isGrave } of mistakes) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    const words = document.createElement("span");
    item.classList.toggle("is-mild", !isGrave);
    button.type = "button";
    button.textContent = `Line ${line}`;
    button.addEventListener("click", () => lead(line));
    words.textContent = detail;
    item.append(button, " ", words);
    list.append(item);
  }
  // So that screen readers do not read the same report twice.
  if (report.textContent.trim() !== list.textContent.trim() || !report.querySelector("button")) {
    report.replaceChildren(list);
  }
}

function say(report, text) {
  const words = document.createElement("p");
  words.className = "quiet";
  words.textContent = text;
  report.dataset.said = "true";
  if (report.textContent.trim() !== text) report.replaceChildren(words);
}

// Select a line, and bring it into view.
function goTo(field, lines, number) {
  const before = field.value.split("\n").slice(0, number);
  const end = before.join("\n").length;
  field.focus({ preventScroll: true });
  field.setSelectionRange(end - before.at(-1).length, end);
  lines.at(number)?.scrollIntoView({ block: "center" });
}
