// Small things that the modules of a session's page share.

// Control characters except tab and line breaks, and those that change the direction of a text. The
// server writes them out as code points in what it renders; events get the same treatment here.
const INVISIBLE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

export function visible(text) {
  return String(text).replace(
    INVISIBLE,
    (one) => `⟨U+${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`,
  );
}

// Return HTML that the server rendered as nodes.
export function parseHtml(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}

// Return a copy of the element in a template of the page.
export function cloneTemplate(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

export function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Have screen readers read a text aloud.
export function announce(text) {
  const place = document.getElementById("announcement");
  if (place) place.textContent = text;
}

// Whether the end of the page is visible, so that it should stay visible as the page grows.
export function isAtEnd() {
  return innerHeight + scrollY >= document.documentElement.scrollHeight - 120;
}

export function scrollToEnd() {
  scrollTo(0, document.documentElement.scrollHeight);
}
