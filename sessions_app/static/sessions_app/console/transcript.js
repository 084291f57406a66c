// The transcript: a window of messages, fetched on one side as somebody scrolls and dropped on the other.

import { cloneTemplate, element, parseHtml, announce, visible } from "./dom.js";
import { RequestError, formatTime, request } from "./shared.js";

// Messages that the page holds at most, and how long to wait before a fetch is tried again.
const MOST = 150;
const PAUSE = 1500;

const wait = (time) => new Promise((resolve) => setTimeout(resolve, time));

export class Transcript {
  constructor(page, messages) {
    this.url = page.dataset.transcript;
    this.base = page.dataset.base;
    this.list = messages;
    this.first = Number(messages.dataset.first);
    this.last = Number(messages.dataset.last);
    this.newest = Number(messages.dataset.newest);
    this.older = document.getElementById("older");
    this.newer = document.getElementById("newer");
    this.live = document.getElementById("live");
    this.isBusy = false;
    this.watch();
    this.decorate(messages);
    this.show();
  }

  // Whether the newest messages are in the window, so that new ones can follow them.
  get isAtNewest() {
    return this.last >= this.newest;
  }

  watch() {
    const observer = new IntersectionObserver(
      (entries) => {
        for (const { isIntersecting, target } of entries) {
          if (isIntersecting) this.grow(target === this.older ? "before" : "after");
        }
      },
      { rootMargin: "800px" },
    );
    observer.observe(this.older);
    observer.observe(this.newer);
    this.observer = observer;
  }

  // Fetch what comes before or after the window.
  async grow(side) {
    const isDone = side === "before" ? this.first <= 1 : this.isAtNewest;
    if (this.isBusy || isDone) return;
    this.isBusy = true;
    try {
      const bound = side === "before" ? this.first : this.last;
      const found = await request(`${this.url}?${side}=${bound}`);
      if (side === "before") this.prepend(found);
      else this.append(found);
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      announce(error.message);
      await wait(PAUSE);
    } finally {
      this.isBusy = false;
      this.show();
      // An end that is still visible grows again.
      for (const link of [this.older, this.newer]) {
        this.observer.unobserve(link);
        this.observer.observe(link);
      }
    }
  }

  prepend({ html, first, newest }) {
    const anchor = this.list.firstElementChild;
    const top = anchor?.getBoundingClientRect().top ?? 0;
    const nodes = parseHtml(html);
    this.decorate(nodes);
    this.list.prepend(...[...nodes.children].filter((node) => !this.find(node.dataset.seq)));
    this.first = first;
    this.newest = Math.max(this.newest, newest);
    while (this.list.children.length > MOST) this.list.lastElementChild.remove();
    this.last = Number(this.list.lastElementChild?.dataset.seq ?? first - 1);
    this.show();
    // The visible messages stay where they are, also in browsers without scroll anchoring.
    if (anchor) scrollBy(0, anchor.getBoundingClientRect().top - top);
  }

  append({ html, last, newest }) {
    const nodes = parseHtml(html);
    this.decorate(nodes);
    for (const node of [...nodes.children]) if (!this.find(node.dataset.seq)) this.list.append(node);
    this.last = Math.max(this.last, last);
    this.newest = Math.max(this.newest, newest);
    this.trimTop();
  }

  trimTop() {
    const spare = this.list.children.length - MOST;
    if (spare <= 0) return;
    const anchor = this.list.children[spare];
    const top = anchor.getBoundingClientRect().top;
    for (let count = 0; count < spare; count += 1) this.list.firstElementChild.remove();
    this.first = Number(this.list.firstElementChild.dataset.seq);
    this.show();
    scrollBy(0, anchor.getBoundingClientRect().top - top);
  }

  // Show the window around a message, and the message.
  async goTo(seq) {
    if (!this.find(seq)) {
      const found = await request(`${this.url}?around=${seq}`);
      const nodes = parseHtml(found.html);
      this.decorate(nodes);
      this.list.replaceChildren(nodes);
      Object.assign(this, { first: found.first, last: found.last });
      this.newest = Math.max(this.newest, found.newest);
      this.show();
    }
    for (const marked of this.list.querySelectorAll(".is-target")) marked.classList.remove("is-target");
    const message = this.find(seq);
    message?.classList.add("is-target");
    message?.scrollIntoView({ block: "start" });
  }

  find(seq) {
    return document.getElementById(`message-${Number(seq)}`);
  }

  // Add a new message: its text at once, then as the server renders it. `onPlaced` is called once
  // it is in the page, or is left out because newer messages are not shown.
  async add({ seq, role, content, timestamp }, onPlaced = () => {}) {
    const isNext = this.isAtNewest;
    this.newest = Math.max(this.newest, seq);
    if (!isNext || this.find(seq)) {
      onPlaced();
      this.show();
      return;
    }
    document.getElementById("nothing")?.remove();
    this.list.append(this.plain({ seq, role, content, timestamp }));
    this.last = seq;
    onPlaced();
    this.show();
    await this.render(seq);
    this.trimTop();
  }

  plain({ seq, role, content, timestamp }) {
    const message = cloneTemplate("message-template");
    message.classList.add(`message-${role}`);
    message.id = `message-${seq}`;
    message.dataset.seq = seq;
    message.querySelector("h3").textContent = role;
    message.querySelector("time").textContent = formatTime(timestamp);
    message.querySelector("a").textContent = `#${seq}`;
    message.querySelector(".message-text").textContent = visible(content);
    return message;
  }

  // Replace a message by what the server renders; retry as long as the server does not answer.
  async render(seq, query = "") {
    for (;;) {
      try {
        const { html } = await request(`${this.base.replace(/change\/$/, "")}message/${seq}/${query}`);
        const nodes = parseHtml(html);
        this.decorate(nodes);
        this.find(seq)?.replaceWith(nodes);
        return;
      } catch (error) {
        if (!(error instanceof RequestError)) throw error;
        if (error.status >= 400 && error.status < 500) return;
        await wait(PAUSE);
      }
    }
  }

  // Add the buttons that need a script.
  decorate(root) {
    for (const pre of root.querySelectorAll("pre")) addCopy(pre);
  }

  show() {
    this.older.hidden = this.first <= 1;
    this.newer.hidden = this.isAtNewest;
    this.live.hidden = !this.isAtNewest;
    const ends = [
      [this.older, `?messages_before=${this.first}`, `Older messages, before ${this.first}`],
      [this.newer, `?messages_after=${this.last}`, `Newer messages, after ${this.last}`],
    ];
    for (const [place, href, text] of ends) {
      const link = place.querySelector("a");
      link.href = href;
      link.textContent = text;
    }
  }
}

export function addCopy(pre) {
  if (!pre.closest(".md, .call, .event, .document") || pre.parentElement.matches(".copied")) return;
  // Text that scrolls has to be reachable by keyboard.
  pre.tabIndex = 0;
  const box = element("div", "copied");
  const button = element("button", "copy link-button", "Copy");
  button.type = "button";
  pre.replaceWith(box);
  box.append(pre, button);
}
