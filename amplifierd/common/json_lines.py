"""JSON on one line, for every reader of lines: event streams, exports, pipes."""

import json
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

# Line ends of Python's str.splitlines(), which knows the most, as far as JSON may have them raw:
# the first two between its tokens, where a blank means the same, the others in its strings.
REPLACEMENTS = {"\r": " ", "\n": " "}
ESCAPES = {"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def dump_line(value: Any) -> str:
    """Return a value as JSON in which no reader of lines finds the end of a line."""
    return escape_line_ends(json.dumps(value, ensure_ascii=False, cls=DjangoJSONEncoder))


def escape_line_ends(text: str) -> str:
    """Return JSON text that means the same and has no line end in it."""
    for character, instead in REPLACEMENTS.items():
        text = text.replace(character, instead)
    if not text.isascii():
        for character, escape in ESCAPES.items():
            text = text.replace(character, escape)
    return text
