"""Markdown with YAML front matter, read within bounds.

Scalars are read by the core schema of YAML 1.2, as other tools read them: `yes`, `12:30` and
`2024-01-01` are text, `0755` is the number 755. Values in command lines, environments and headers
are always text: a program gets `0755` and `1.10` as they were written.

PyYAML's C loader crashes on deep nesting, and aliases can expand without limit. So the loader in
pure Python is used, after a check that the events are not nested too deeply and have no aliases.
"""

import re
from collections.abc import Hashable
from typing import Any, cast

import yaml

from profiles_app import definition
from profiles_app.exceptions import InvalidDefinition

# Bytes of front matter, and of a whole file.
FRONT_MATTER_LIMIT = 16 * 1024
FILE_LIMIT = 256 * 1024
FENCE = "---"
# The front matter begins on this line of the file.
FIRST_LINE = 2


def read_front_matter(
    content: bytes, limit: int = FRONT_MATTER_LIMIT
) -> tuple[dict[str, Any], str]:
    """Return the front matter of at most `limit` bytes and the body, without blank lines around it.

    Raises InvalidDefinition, with the line or the key, for everything that is not plain JSON data:
    aliases, tags, duplicate keys, keys that are not text, more than 20 levels.
    """
    front, body = _split(decode_text(content))
    data = parse_yaml(front, limit)
    if not isinstance(data, dict):
        raise InvalidDefinition(
            "The front matter must be a mapping: begin with `schema_version: 2`."
        )
    definition.check_storable(data, "front matter")
    return data, body


def decode_text(content: bytes) -> str:
    """Return a file's text, with the line ends of Unix; raise InvalidDefinition with the line."""
    if len(content) > FILE_LIMIT:
        raise InvalidDefinition(f"The file is larger than {FILE_LIMIT // 1024} KB; shorten it.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidDefinition(f"Line {line}: not UTF-8; save the file as UTF-8.") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InvalidDefinition(f"Line {line}: NUL characters cannot be stored; remove them.")
    return text.replace("\r\n", "\n")


def parse_yaml(front: str, limit: int = FRONT_MATTER_LIMIT) -> Any:
    """Return the data of a YAML text; raise InvalidDefinition with the line."""
    if len(front.encode()) > limit:
        raise InvalidDefinition(f"The front matter is larger than {limit // 1024} KB; shorten it.")
    _check_events(front)
    try:
        return yaml.load(front, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise _explain(error) from None
    except ValueError:
        raise InvalidDefinition("The front matter has a number that cannot be read.") from None


def locate_error(content: bytes, message: str) -> tuple[int, str]:
    """Return the line of the file that a message is about, and the message without it."""
    if found := _NUMBERED.match(message):
        return int(found[1]), message[found.end() :]
    return find_line(content, message), message


def find_line(content: bytes, message: str) -> int:
    """Return the line of the key with which a message begins, or of the nearest key around it."""
    try:
        front, _ = _split(decode_text(content))
        _check_events(front)
        node = yaml.compose(front, Loader=_Loader)
    except (InvalidDefinition, yaml.YAMLError):
        return 1
    place, _, reason = message.partition(": ")
    steps = _STEPS.findall(place.removeprefix("front matter").strip())
    if unknown := _UNKNOWN.match(reason):
        steps.append((unknown[1], ""))
    line = 0
    for key, index in steps:
        if isinstance(node, yaml.MappingNode) and key:
            parts = [(name, value) for name, value in node.value if name.value == key]
        elif isinstance(node, yaml.SequenceNode) and index:
            parts = [(value, value) for value in node.value[int(index) :]]
        else:
            break
        if not parts:
            break
        line, node = parts[0][0].start_mark.line, parts[0][1]
    return line + FIRST_LINE


# A key or an index in a place such as `providers[0].config.base_url`; an unknown key.
_STEPS = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_UNKNOWN = re.compile(r"unknown key '([^']*)'")
# The beginning of a message that has a line.
_NUMBERED = re.compile(r"Line (\d+): ")


def _split(text: str) -> tuple[str, str]:
    """Return the text between the first two fences, and the text after them."""
    lines = text.split("\n")
    if lines[0].rstrip() != FENCE:
        raise InvalidDefinition("Line 1: begin the file with `---` and its front matter.")
    for number, line in enumerate(lines[1:], start=1):
        if line.rstrip() == FENCE:
            front = "\n".join(lines[1:number])
            break
    else:
        raise InvalidDefinition("The front matter has no end: put a line `---` after it.")
    return front, "\n".join(lines[number + 1 :]).strip()


def _check_events(front: str) -> None:
    """Raise InvalidDefinition for YAML that the constructor would expand or recurse into."""
    depth = 0
    try:
        for event in yaml.parse(front, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            problem = ""
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                problem = "anchors and aliases are not read; write the value out."
            elif getattr(event, "tag", None):
                problem = "tags are not read; write the plain value."
            elif depth > definition.DEPTH:
                problem = f"nested too deeply; at most {definition.DEPTH} levels are read."
            if problem:
                # Each event of the parser has a mark, although the type allows None.
                line = _line(cast("yaml.Mark", event.start_mark))
                raise InvalidDefinition(f"Line {line}: {problem}")
    except yaml.YAMLError as error:
        raise _explain(error) from None


_STR = "tag:yaml.org,2002:str"
# The core schema of YAML 1.2: pattern and first characters of each type of plain scalar.
CORE_SCHEMA: tuple[tuple[str, str, str], ...] = (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
)
# The keys of a module's `config` below which every value is text, as programs need it.
AS_WRITTEN = frozenset({"args", "env", "headers"})


def add_core_schema(resolver: type[yaml.resolver.BaseResolver]) -> None:
    """Add the types of the core schema to a loader or a dumper."""
    for name, pattern, first in CORE_SCHEMA:
        letters: list[str] = [*first, *([""] if name == "null" else [])]
        compiled = re.compile(rf"(?:{pattern})\Z")
        resolver.add_implicit_resolver(f"tag:yaml.org,2002:{name}", compiled, letters)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 with text keys only, each once, and no merge keys."""

    yaml_implicit_resolvers = {}

    def construct_document(self, node: yaml.Node) -> Any:
        """Build a document; values below the keys of AS_WRITTEN stay text."""
        _keep_texts(node)
        return super().construct_document(node)

    def construct_core_int(self, node: yaml.ScalarNode) -> int:
        """Build a whole number: decimal, also with leading zeros, `0o17` or `0x0f`."""
        return int(node.value, {"0o": 8, "0x": 16}.get(node.value[:2], 10))

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Build a mapping; raise InvalidDefinition for a key that is not text or is there twice."""
        seen = set()
        for key, _ in node.value:
            line = _line(key.start_mark)
            if key.tag != _STR:
                raise InvalidDefinition(f"Line {line}: a key must be text; quote it.")
            if key.value in seen:
                raise InvalidDefinition(f"Line {line}: the key {key.value!r} stands twice.")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


add_core_schema(_Loader)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_core_int)


def _items(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return node.value
    return [value for _, value in node.value] if isinstance(node, yaml.MappingNode) else []


def _keep_texts(node: yaml.Node, *, in_config: bool = False) -> None:
    """Make text of the values below the keys of AS_WRITTEN, in all configs below a node."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _keep_texts(item, in_config=in_config)
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if not isinstance(key, yaml.ScalarNode):
            continue
        if in_config and key.value in AS_WRITTEN:
            for item in _items(value):
                _keep_written(item)
        else:
            _keep_texts(value, in_config=in_config or key.value == "config")


def _keep_written(node: yaml.Node) -> None:
    """Make text of the scalars of a node; an empty one stays null."""
    if isinstance(node, yaml.ScalarNode) and node.value:
        node.tag = _STR
    for item in _items(node):
        _keep_written(item)


def _explain(error: yaml.YAMLError) -> InvalidDefinition:
    """Return the error of a YAML text, without a quotation: that might be a secret."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return InvalidDefinition("The front matter has characters that YAML does not allow.")
    mark, problem = error.problem_mark or error.context_mark, error.problem or "is no valid YAML"
    if error.context == "while scanning a quoted scalar" and error.context_mark:
        # The mark of the problem is the end of the file.
        mark, problem = error.context_mark, "the quote that begins here has no end"
    where = f"Line {_line(mark)}" if mark else "The front matter"
    hint = next((hint for words, hint in _HINTS.items() if words in problem), "")
    return InvalidDefinition(f"{where}: {problem}.{hint}")


# A part of YAML's message, and what to do.
_HINTS = {
    "'\\t'": " Indent with spaces, not with tabs.",
    "mapping values are not allowed": " Put a text with a colon in quotes.",
    "could not find expected ':'": " Write `key: value`.",
    "has no end": " Close it, or write it with the other kind of quotes.",
}


def _line(mark: yaml.Mark) -> int:
    """Return the line of the file, counted from 1."""
    return mark.line + FIRST_LINE


class _Dumper(yaml.SafeDumper):
    """YAML as people write it: long texts as blocks, and no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, value: str) -> yaml.ScalarNode:
        return self.represent_scalar(_STR, value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _Dumper.represent_str)
# So that a text which a reader of YAML 1.1 or 1.2 would take for another type is quoted.
add_core_schema(_Dumper)


def dump_yaml(data: Any) -> str:
    """Return data as YAML that `parse_yaml` reads, keys in their order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf"))
