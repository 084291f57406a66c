"""Values, code and Markdown as the console shows them: readable and inert."""

import json
import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import nh3
from django.contrib.admin.utils import quote
from django.urls import reverse
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name

from amplifierd.common.formats import format_duration
from amplifierd.common.text import excerpt, visible

# Messages after the one that a link leads to, on the page that it leads to.
AROUND = 50
# Characters of the input of a tool that an approval shows.
INPUT_LIMIT = 20_000


def format_json(data: Any) -> str:
    return visible(json.dumps(data, indent=2, ensure_ascii=False))


def render_input(data: Any) -> SafeString:
    """Return the beginning of a tool's input as coloured JSON."""
    return highlight_json(excerpt(format_json(data), INPUT_LIMIT))


def render_badge(status: str) -> SafeString:
    return format_html('<span class="badge badge-{}">{}</span>', status, status)


def shorten_id(identifier: str) -> str:
    """Return the end of an id, which differs also for rows made in the same minute."""
    return f"…{identifier[-8:]}"


def name_session(name: str | None, identifier: str) -> str:
    """Return what a link to a session is called: its name, or the end of its id."""
    return visible(name or "") or shorten_id(identifier)


def describe_error(code: str | None, text: str | None) -> str:
    return visible(": ".join(filter(None, (code, text))))


def format_wait(seconds: float | None) -> str:
    """Return a duration, a short one in milliseconds: 45 ms, 1.2 s."""
    if seconds is not None and seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return format_duration(seconds)


def format_took(start: datetime | None, end: datetime | None) -> str:
    """Return the time between two moments; empty if one of them has not come."""
    return format_duration((end - start).total_seconds()) if start and end else ""


def page_url(model: str, identifier: str) -> str:
    return reverse(f"admin:sessions_app_{model}_change", args=[quote(identifier)])


def message_url(session_id: str, seq: int, newest: int) -> str:
    """Return the URL that shows a message of a session with `newest` messages."""
    # A page shows a window of the transcript; further back it is asked for.
    before = f"?messages_before={seq + AROUND}" if newest > seq + AROUND else ""
    return f"{page_url('session', session_id)}{before}#message-{seq}"


# Languages that are coloured. Each lexer has its own regular expressions; these were tested with
# text that is made to be slow.
LANGUAGES = frozenset(
    "bash c cpp csharp css diff go html ini java javascript json kotlin lua php python ruby rust"
    " sh sql swift toml typescript xml yaml console docker js ts py yml shell py3 rs rb c++ cs"
    " golang dockerfile jsonc tsx jsx zsh python3 udiff".split()
)
# Code that is longer, or has such gaps or lines, is not coloured: some lexers are slow on it.
HIGHLIGHT_LIMIT = 10_000
GAP = re.compile(r"\s{200}|[^\n]{1000}")

_FORMATTER = HtmlFormatter(nowrap=True)


@lru_cache(len(LANGUAGES))
def _lexer(language: str) -> Lexer:
    return get_lexer_by_name("json" if language == "jsonc" else language, stripnl=False)


def find_lexer(language: str) -> Lexer | None:
    name = language.lower()
    return _lexer(name) if name in LANGUAGES else None


def highlight_code(code: str, lexer: Lexer) -> SafeString:
    """Return the code as HTML with classes, or without them if that would take too long."""
    is_plain = len(code) > HIGHLIGHT_LIMIT or GAP.search(code)
    html = escape(code) if is_plain else highlight(code, lexer, _FORMATTER)
    return mark_safe(html)  # noqa: S308 - Pygments escapes, as `escape` does


def highlight_json(text: str) -> SafeString:
    return highlight_code(text, _lexer("json"))


# --- Markdown of people and models, as HTML that can do nothing but be read ---
#
# There are two walls: markdown-it-py writes no HTML of the text's own, and nh3 lets through only
# the tags and attributes below, whatever came out of the first. Nothing is loaded from anywhere:
# images are links.

SCHEMES = {"http", "https", "mailto"}
TAGS = set(
    "p br hr h4 h5 h6 strong em s blockquote a ul ol li pre code span"
    " table thead tbody tr th td".split()
)
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}, "span": {"class"}, "pre": {"class"}}
# Headings of a message are lower than those of the page.
LOWER = {"h1": "h4", "h2": "h5", "h3": "h6", "h4": "h6", "h5": "h6"}
# Size of the cache of rendered messages: they never change, and are shown again and again.
KEPT = 256


@lru_cache(KEPT)
def render_markdown(text: str) -> SafeString:
    """Return the text as HTML: Markdown formatted, control characters spelled out, nothing alive.

    Links go to other sites only, in a tab of their own that knows nothing of this one.
    """
    html = _make_parser().render(visible(text))
    clean = nh3.clean(
        html,
        tags=TAGS,
        attributes=ATTRIBUTES,
        url_schemes=SCHEMES,
        url_relative="deny",
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
    return mark_safe(clean)  # noqa: S308 - nh3 has just made it so


@lru_cache(1)
def _make_parser() -> MarkdownIt:
    def highlight_block(code: str, language: str, _attributes: str) -> str:
        lexer = find_lexer(language)
        return highlight_code(code, lexer) if lexer else ""

    def lower_headings(state: StateCore) -> None:
        for token in state.tokens:
            if token.type in ("heading_open", "heading_close"):
                token.tag = LOWER.get(token.tag, token.tag)

    parser = MarkdownIt("commonmark", {"html": False, "highlight": highlight_block})
    parser.enable(["table", "strikethrough"])
    # The way that the library documents.
    parser.validateLink = is_external_link  # type: ignore[method-assign]
    parser.core.ruler.push("lower_headings", lower_headings)
    parser.add_render_rule("image", render_image_link)
    return parser


def is_external_link(url: str) -> bool:
    """Return whether a link leads to another site: a message must not link into the console."""
    scheme, colon, rest = url.strip().partition(":")
    is_mail = scheme.lower() == "mailto"
    return bool(colon) and scheme.lower() in SCHEMES and (is_mail or rest.startswith("//"))


def render_image_link(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any
) -> str:
    """Return a link to the image, which is not loaded: its server must not learn of readers."""
    token = tokens[index]
    name = renderer.renderInlineAsText(token.children, options, env) if token.children else ""
    return f'<a href="{escape(token.attrs["src"])}">image: {escape(name or token.attrs["src"])}</a>'
