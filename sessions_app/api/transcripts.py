"""A transcript of any length, written as it is read: memory does not grow with it."""

import json
from collections.abc import Iterable, Iterator

from sessions_app.api.representations import message_json
from sessions_app.models import Message

# Messages that are read in one query.
PAGE = 500


def transcript_pages(
    session_id: str, after: int | None = None, before: int | None = None
) -> Iterator[list[Message]]:
    """Yield the messages between two seqs, oldest first, page by page.

    Between two pages no connection and no transaction is held; messages are never changed, so
    the pages fit together.
    """
    while True:
        found = Message.objects.in_session(session_id).between(after, before)
        rows = list(found[:PAGE])
        if rows:
            yield rows
        if len(rows) < PAGE:
            return
        after = rows[-1].seq


def json_array(pages: Iterable[list[Message]]) -> Iterator[bytes]:
    """Yield a JSON array of the messages, a piece for each page."""
    opening = "["
    for page in pages:
        items = (json.dumps(message_json(row), ensure_ascii=False) for row in page)
        yield f"{opening}{','.join(items)}".encode()
        opening = ","
    yield b"[]" if opening == "[" else b"]"
