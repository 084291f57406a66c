"""Characters that nobody sees, shown: what somebody wrote is what somebody reads."""

# Control characters but for tab and line breaks, and those that turn the direction of a text.
_INVISIBLE = (
    *(code for code in range(0x20) if chr(code) not in "\t\n\r"),
    *range(0x7F, 0xA0),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
)
_SPELLED = {code: f"⟨U+{code:04X}⟩" for code in _INVISIBLE}


def visible(text: str) -> str:
    """Return the text with control characters and changes of direction spelled out.

    Line breaks and tabs stay. HTML is not escaped: that is what templates do.
    """
    return text.translate(_SPELLED)
