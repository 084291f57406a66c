"""Markdown of people and models as HTML that can do nothing but be read.

Two walls: markdown-it-py writes no HTML of the text's own, and nh3 lets through only the tags and
attributes below, whatever came out of the first. Nothing is loaded from anywhere: images are links.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import nh3
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from pygments.lexer import Lexer

from sessions_app.admin.highlighting import highlighted, lexer_for
from sessions_app.admin.rendering import visible

SCHEMES = {"http", "https", "mailto"}
TAGS = {
    *("p", "br", "hr", "h4", "h5", "h6", "strong", "em", "s", "blockquote", "a"),
    *("ul", "ol", "li", "pre", "code", "span", "table", "thead", "tbody", "tr", "th", "td"),
}
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}, "span": {"class"}, "pre": {"class"}}
# Headings of a message stand below those of the page.
LOWER = {"h1": "h4", "h2": "h5", "h3": "h6", "h4": "h6", "h5": "h6"}
# Rendered messages that are kept: they never change, and are looked at again and again.
KEPT = 256


@lru_cache(KEPT)
def rendered(text: str) -> SafeString:
    """Return the text as HTML: Markdown formatted, control characters spelled out, nothing alive.

    Links go to other sites only, in a tab of their own that knows nothing of this one.
    """
    html = _parser().render(visible(text))
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
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "highlight": _code})
    parser.enable(["table", "strikethrough"])
    parser.validateLink = _leads_elsewhere
    parser.core.ruler.push("lower_headings", _lower_headings)
    parser.add_render_rule("image", _image)
    return parser


def _leads_elsewhere(url: str) -> bool:
    """Tell whether a link may be one: what is said here must not lead into the console."""
    scheme, colon, rest = url.strip().partition(":")
    is_mail = scheme.lower() == "mailto"
    return bool(colon) and scheme.lower() in SCHEMES and (is_mail or rest.startswith("//"))


def _lower_headings(state: StateCore) -> None:
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = LOWER.get(token.tag, token.tag)


def _image(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any
) -> str:
    """Return a link to the image, which is not loaded: to look at a page tells nobody of it."""
    token = tokens[index]
    name = renderer.renderInlineAsText(token.children, options, env) if token.children else ""
    return f'<a href="{escape(token.attrs["src"])}">image: {escape(name or token.attrs["src"])}</a>'


def _code(code: str, language: str, _attributes: str) -> str:
    lexer: Lexer | None = lexer_for(language)
    return highlighted(code, lexer) if lexer else ""
