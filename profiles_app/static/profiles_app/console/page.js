// A profile's page: the editor, numbered lines, and the panel to try it.

import { edit } from "./editor.js";
import { Lines } from "./lines.js";
import { tryOut } from "./try.js";

for (const pre of document.querySelectorAll("pre.numbered")) {
  const text = pre.textContent;
  pre.replaceChildren();
  new Lines(pre).show(text);
}

const panel = document.querySelector(".try");
const trial = panel ? tryOut(panel) : null;
const form = document.querySelector(".editor");
if (form) edit(form, (isChanged) => trial?.unsaved(isChanged));
