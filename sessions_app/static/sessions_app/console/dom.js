// Small things that the modules of a session's page share.

// Control characters but for tab and line breaks, and those that turn the direction of a text: what
// the server spells out in what it renders, spelled out in what arrives here.
const INVISIBLE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

export function visible(text) {
  return String(text).replace(
    INVISIBLE,
    (one) => `⟨U+${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`,
  );
}

// Return what the server has rendered as nodes.
export function parsed(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}

// Return a copy of what a template of the page has.
export function copyOf(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

export function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Tell those who do not see the page.
export function tell(text) {
  const told = document.getElementById("told");
  if (told) told.textContent = text;
}

// Whether the end of the page is in sight, so that it should stay so as the page grows.
export function isAtEnd() {
  return innerHeight + scrollY >= document.documentElement.scrollHeight - 120;
}

export function toEnd() {
  scrollTo(0, document.documentElement.scrollHeight);
}
