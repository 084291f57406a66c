"""Text that nobody can see, which model servers refuse as an empty message."""

import unicodedata

# Separators, controls, format characters (zero-width ones), and marks without a letter to stand on.
# Unassigned code points are not among them: they may be letters of a Unicode newer than Python's.
_INVISIBLE = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf", "Mn", "Mc", "Me"})
# Letters and symbols that fonts draw as nothing: Hangul fillers and the empty Braille cell.
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")


def is_blank(text: str) -> bool:
    """Return whether a text has no visible character."""
    if "!" <= text[:1] <= "~":
        # Nearly all texts: long histories are checked whole for each request.
        return False
    return all(
        char in _FILLERS or unicodedata.category(char) in _INVISIBLE for char in text.lstrip()
    )
