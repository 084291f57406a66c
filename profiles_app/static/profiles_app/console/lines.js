// A text line by line, with numbers, marks and colours, in an element of its own.

import { coloured } from "./colours.js";

const FENCE = /^---\s*$/;

export class Lines {
  constructor(element) {
    this.element = element;
    element.classList.add("lines");
    // For each line its place and its text.
    this.shown = [];
    this.marks = new Map();
  }

  // Show a text; only the lines that differ are created again.
  show(text) {
    const wanted = placed(text.split("\n"));
    let start = 0;
    const shorter = Math.min(wanted.length, this.shown.length);
    while (start < shorter && same(wanted[start], this.shown[start])) start += 1;
    let end = 0;
    while (end < shorter - start && same(wanted.at(-1 - end), this.shown.at(-1 - end))) end += 1;
    const old = [...this.element.children].slice(start, this.shown.length - end);
    const made = wanted.slice(start, wanted.length - end).map(lineOf);
    const after = this.element.children[this.shown.length - end] ?? null;
    for (const line of made) this.element.insertBefore(line, after);
    for (const line of old) line.remove();
    this.shown = wanted;
  }

  // Mark lines: `marks` has the class of each by its number.
  mark(marks) {
    for (const [number, kind] of this.marks) {
      this.element.children[number - 1]?.classList.remove(kind);
    }
    this.marks = marks;
    for (const [number, kind] of marks) this.element.children[number - 1]?.classList.add(kind);
  }

  // Return the element of a line.
  at(number) {
    return this.element.children[number - 1];
  }
}

function same(one, other) {
  return one.place === other.place && one.text === other.text;
}

// Return each line with its place: a fence, in the front matter, or in the body.
function placed(lines) {
  const opens = FENCE.test(lines[0]);
  const found = opens ? lines.findIndex((line, index) => index > 0 && FENCE.test(line)) : -1;
  const end = opens && found < 0 ? lines.length : found;
  return lines.map((text, index) => {
    const isFence = opens && (index === 0 || index === end);
    return { text, place: isFence ? "fence" : index < end ? "front" : "body" };
  });
}

function lineOf({ text, place }) {
  const line = document.createElement("div");
  line.className = `line line-${place}`;
  line.append(...(place === "front" ? coloured(text) : [text]), "\n");
  return line;
}
