"""Code in colours: spans with classes, for the stylesheet to colour."""

import re
from functools import lru_cache

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name

# Languages that are coloured. Each is read by expressions of its own, and what stands here has
# been tried with text that was made to be slow.
LANGUAGES = {
    *("bash", "c", "cpp", "csharp", "css", "diff", "go", "html", "ini", "java", "javascript"),
    *("json", "kotlin", "lua", "php", "python", "ruby", "rust", "sh", "sql", "swift"),
    *("toml", "typescript", "xml", "yaml", "console", "docker", "js", "ts", "py", "yml", "shell"),
    *("py3", "rs", "rb", "c++", "cs", "golang", "dockerfile", "jsonc", "tsx"),
    *("jsx", "zsh", "python3", "udiff"),
}
# Code that stays as it is: with more characters, gaps or lines, over which some lexers take long.
MOST = 10_000
GAP = re.compile(r"\s{200}|[^\n]{1000}")

_FORMATTER = HtmlFormatter(nowrap=True)


@lru_cache(len(LANGUAGES))
def _lexer(language: str) -> Lexer:
    return get_lexer_by_name("json" if language == "jsonc" else language, stripnl=False)


def lexer_for(language: str) -> Lexer | None:
    """Return the lexer of a language, by the name that stands at a block of code."""
    name = language.lower()
    return _lexer(name) if name in LANGUAGES else None


def highlighted(code: str, lexer: Lexer) -> SafeString:
    """Return the code as HTML with classes; without them, what would take too long."""
    is_plain = len(code) > MOST or GAP.search(code)
    html = escape(code) if is_plain else highlight(code, lexer, _FORMATTER)
    return mark_safe(html)  # noqa: S308 - Pygments escapes, as `escape` does


def json_html(text: str) -> SafeString:
    """Return JSON text in colours."""
    return highlighted(text, _lexer("json"))
