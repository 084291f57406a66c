// The parts of a line of YAML: keys, comments, references such as ${NAME}.

const KEY = /^(\s*(?:- +)*)([^\s#:'"][^:#'"]*)(:)(?=\s|$)/;
const PART = /(\$\{[A-Za-z_][A-Za-z0-9_]*\})|((?:^|(?<=\s))#.*$)/g;

// Return a line as texts and coloured spans, which together have exactly its text.
export function coloured(text) {
  const key = KEY.exec(text);
  if (!key) return rest(text);
  const [whole, indent, name, colon] = key;
  return [indent, span("key", name + colon), ...rest(text.slice(whole.length))];
}

function rest(text) {
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(PART)) {
    parts.push(text.slice(end, found.index), span(found[1] ? "reference" : "comment", found[0]));
    end = found.index + found[0].length;
  }
  return [...parts, text.slice(end)];
}

function span(kind, text) {
  const made = document.createElement("span");
  made.className = `part-${kind}`;
  made.textContent = text;
  return made;
}
