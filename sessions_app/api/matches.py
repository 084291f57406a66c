"""What a search found, as the API writes it: sessions, each with where it fits best."""

from sessions_app.api.representations import JSON, session_json
from sessions_app.models import Session
from sessions_app.search import Words
from sessions_app.searching import Hit
from sessions_app.snippets import marked, snippets


def hits_json(hits: list[Hit], words: Words) -> list[JSON]:
    """Return the sessions that were found, in that order; one deleted meanwhile is left out."""
    sessions = Session.objects.shown().in_bulk([hit.session_id for hit in hits])
    places = snippets([hit.message_id for hit in hits if hit.message_id], words)
    return [
        session_json(session) | {"match": _match_json(hit, session, words, places)}
        for hit in hits
        if (session := sessions.get(hit.session_id))
    ]


def _match_json(hit: Hit, session: Session, words: Words, places: dict[str, str]) -> JSON:
    """Return where a session fits; without a message it is the name that does."""
    snippet = places.get(hit.message_id) if hit.message_id else marked(session.name or "", words)
    return {
        "seq": hit.seq,
        "messageId": hit.message_id,
        "snippet": snippet,
        "rank": round(hit.rank, 6),
    }
