"""A program that reads HTML from its standard input and writes Markdown to its standard output.

Its arguments are the character set ("" if the page itself names it) and the page's URL. It imports
nothing of the daemon, so that it starts fast.
"""

import contextlib
import re
import resource
import sys
from urllib.parse import urljoin

from bs4 import BeautifulSoup
from markdownify import MarkdownConverter

# Bytes of memory, and seconds of a processor.
MEMORY = 700_000_000
SECONDS = 15
# Characters that are written, at most.
LIMIT = 2_000_000

# `head` is not among these: HTML allows to omit its end, and then the whole body is inside it.
_SILENT = ["title", "script", "style", "noscript", "template", "svg", "iframe"]
_BLANK = re.compile(r"\n[ \t]*\n\s*\n")


def main(charset: str, url: str) -> None:
    """Convert the page on the standard input."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    soup = BeautifulSoup(sys.stdin.buffer.read(), "html.parser", from_encoding=charset or None)
    sys.stdout.buffer.write(convert(soup, url)[:LIMIT].encode(errors="replace"))


def convert(soup: BeautifulSoup, url: str) -> str:
    """Return the title and the text as Markdown; as plain text if the page is nested too deeply."""
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    for tag in soup(_SILENT):
        tag.decompose()
    for image in soup("img"):
        image.replace_with(str(image.get("alt") or ""))
    for link in soup("a", href=True):
        with contextlib.suppress(ValueError):
            link["href"] = urljoin(url, str(link["href"]))
    try:
        text = MarkdownConverter(heading_style="ATX", bullets="-").convert_soup(soup)
    except RecursionError:
        text = soup.get_text("\n", strip=True)
    text = _BLANK.sub("\n\n", text).strip()
    return f"Title: {title}\n\n{text}" if title else text


if __name__ == "__main__":
    main(*sys.argv[1:])
