"""GET /sessions/?q=…"""

import re
import unicodedata
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from sessions_app import search as searching
from sessions_app.models import Session
from sessions_app.services import messages, sessions
from sessions_app.states import SessionStatus
from tests.conftest import Api

Make = Callable[..., Session]
Said = Callable[..., Session]


@pytest.fixture
def said(make: Make) -> Said:
    """`said("hello", "how are you")`: an active session with these messages."""

    def session_with(*contents: str, **options: Any) -> Session:
        session = make(SessionStatus.ACTIVE, **options)
        for content in contents:
            messages.add(session.id, content)
        return session

    return session_with


def search(api: Api, text: str, more: str = "") -> Any:
    response = api("get", f"/sessions/?q={quote(text)}{more}")
    assert response.status_code == 200, response.content
    return response


def found(api: Api, text: str, more: str = "") -> list[str]:
    return [row["sessionId"] for row in search(api, text, more).json()]


def test_a_session_is_found_by_what_was_said_with_the_seq_of_the_message(
    api: Api, said: Said
) -> None:
    said("nothing of the kind")
    wanted = said("hello", "the parser fails on tabs", "thanks")
    response = search(api, "parser tabs")
    (row,) = response.json()
    message = api("get", f"/sessions/{wanted.id}/messages").json()["messages"][1]
    assert (row["sessionId"], row["match"]["seq"]) == (wanted.id, 2)
    assert row["match"]["messageId"] == message["messageId"]
    assert row["match"]["snippet"] == "the ⟦parser⟧ fails on ⟦tabs⟧"
    assert 0 < row["match"]["rank"] < 1
    assert response["X-Total-Count"] == "1"
    assert "X-Search-Incomplete" not in response


def test_a_session_is_found_by_its_name_and_comes_before_those_that_only_said_it(
    api: Api, said: Said
) -> None:
    named = said("hello", name="Fix the Parser")
    spoken = said("parser parser parser")
    rows = search(api, "parser").json()
    assert [row["sessionId"] for row in rows] == [named.id, spoken.id]
    assert rows[0]["match"]["rank"] == 1
    assert rows[0]["match"] | {"rank": 0} == {
        "seq": None,
        "messageId": None,
        "snippet": "Fix the ⟦Parser⟧",
        "rank": 0,
    }


def test_of_several_messages_the_one_that_fits_best_is_shown(api: Api, said: Said) -> None:
    said("a gale somewhere in a text of many other words", "gale, gale, gale", "no wind")
    (row,) = search(api, "gale").json()
    assert row["match"]["seq"] == 2


def test_who_says_it_more_densely_comes_first_and_the_newest_of_equals(
    api: Api, said: Said
) -> None:
    equal = [said("one gale").id for _ in range(2)]
    dense = said("gale gale")
    assert found(api, "gale") == [dense.id, *equal[::-1]]


def test_other_lists_carry_no_match(api: Api, session: Session) -> None:
    assert "match" not in api("get", "/sessions/").json()[0]


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("brown fox", True),
        ("BROWN Fox", True),
        ("fox brown", True),
        ('"brown fox"', True),
        ('"fox brown"', False),
        ('"quick fox"', False),
        ("brown -fox", False),
        ("brown -wolf", True),
        ("wolf or fox", True),
        ("wolf OR bear", False),
        ("brown wolf", False),
        ("bro", True),
        ("brown fo", True),
        ("bro ", False),
        ("bro fox", False),
        ('"brown fo', True),
        ('"brown fo"', False),
        ("brown -fo", True),
    ],
)
def test_it_is_searched_as_on_the_web_and_the_last_word_may_go_on(
    api: Api, said: Said, text: str, fits: bool
) -> None:
    session = said("The quick brown fox jumps")
    assert found(api, text) == [session.id] * fits


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("look at src/parser/lexer.py, line 3", "lexer.py"),
        ("look at src/parser/lexer.py, line 3", "parser"),
        ("look at src/parser/lexer.py, line 3", "src/parser/le"),
        ("write to ada@example.com", "ada@example.com"),
        ("write to ada@example.com", "ada@ex"),
        ("see https://example.com/a/page?x=1", "https://example.com/a/page"),
        ('<div class="note">text</div>', "note"),
        ("List<String> names", "string"),
        ("call max_value() now", "max_value"),
        ("a well-known fact", "well-known"),
        ("a well-known fact", "well-kn"),
        ("we don't know", "don't"),
        ("version 3.11.4 of it", "3.11.4"),
        ("Das ist die ÉCOLE", "école"),
        ("der Straße nach", "straße"),
        ("שלום עולם", "עולם"),
        ("مرحبا بالعالم", "مرحبا"),
        ("ship it 👍 now", "👍"),
        ("привет, мир", "мир"),
        ("今日、検索をする。", "検索"),
        ("\u202eright to left\u202c", "to"),
    ],
)
def test_words_of_any_language_paths_and_addresses_are_found(
    api: Api, said: Said, content: str, text: str
) -> None:
    session = said(content)
    assert found(api, text) == [session.id]


def test_writing_without_blanks_is_found_from_where_a_piece_of_it_begins(
    api: Api, said: Said
) -> None:
    session = said("今日、検索をする。")
    assert found(api, "検索を") == [session.id]
    assert found(api, "索を") == []


@pytest.mark.parametrize(
    "text",
    [
        " ",
        "!!! ... ---",
        "-",
        '"',
        '""',
        "-parser",
        '-"the parser"',
        "parser or -tabs",
        "& | ! ( ) : * <-> \\ '",
        "\u200b",
        "w" * 1000,
        "\U00020000" * 1000,
        "%s %(query)s {sessions} %",
        "'); DROP TABLE sessions_app_session; --",
        "\\' \\\\ ' '' :*",
    ],
)
def test_a_search_that_names_no_word_to_find_finds_nothing(api: Api, said: Said, text: str) -> None:
    said("the parser fails on tabs")
    response = search(api, text)
    assert (response.json(), response["X-Total-Count"]) == ([], "0")


@pytest.mark.parametrize("text", ["a\0b", "w" * 1001])
def test_a_search_that_cannot_be_is_refused(api: Api, text: str) -> None:
    response = api("get", f"/sessions/?q={quote(text)}")
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "q"


def test_bytes_that_are_no_text_are_no_error(api: Api, session: Session) -> None:
    assert api("get", "/sessions/?q=%ff%fe%ed%a0%80").status_code == 200


def test_a_snippet_is_plain_text_around_the_first_word_and_its_marks_are_its_own(
    api: Api, said: Said
) -> None:
    said("x" * 500 + " ⟦fake⟧ <b>needle</b>\nin\tline " + "y " * 300)
    (row,) = search(api, "needle").json()
    snippet = row["match"]["snippet"]
    assert "fake <b>⟦needle⟧</b> in line y y" in snippet
    assert snippet.startswith("…") and snippet.endswith("…")
    assert len(snippet) < 260
    assert re.findall("⟦.*?⟧", snippet) == ["⟦needle⟧"]


def test_what_is_excluded_or_part_of_another_word_is_not_marked(api: Api, said: Said) -> None:
    said("needles in needle case")
    (row,) = search(api, "needle -pin ").json()
    assert row["match"]["snippet"] == "needles in ⟦needle⟧ case"


def test_other_filters_hold_in_a_search(api: Api, said: Said) -> None:
    wanted = said("a gale", metadata={"team": "red"})
    said("a gale", metadata={"team": "blue"})
    ended = said("a gale", metadata={"team": "red"})
    sessions.complete(ended.id)
    assert found(api, "gale", "&metadata.team=red&status=active") == [wanted.id]


def pages(api: Api, text: str, limit: int) -> list[str]:
    """Return what the pages of a search have, one after the other."""
    seen, path = [], f"/sessions/?q={text}&limit={limit}"
    while path:
        response = api("get", path)
        seen += [row["sessionId"] for row in response.json()]
        link = re.fullmatch(r'<http://testserver/api/v1(.*)>; rel="next"', response.get("Link", ""))
        path = link and link[1]
    return seen


def test_pages_meet_exactly_by_rank(api: Api, said: Said) -> None:
    for count in (1, 3, 2, 1, 3):
        said(" ".join(["gale"] * count))
    said("a gale", name="gale")
    whole = found(api, "gale")
    assert len(set(whole)) == 6
    assert pages(api, "gale", 2) == whole


def test_the_cursor_of_a_list_is_none_of_a_search(api: Api, said: Said) -> None:
    for _ in range(2):
        said("gale")
    link = api("get", "/sessions/?limit=1")["Link"]
    cursor = re.search(r"cursor=([^&>]+)", link)[1]
    response = api("get", f"/sessions/?q=gale&cursor={cursor}")
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "cursor"


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds of a search that few sessions reach."""
    monkeypatch.setattr(searching, "FEW", 4)
    monkeypatch.setattr(searching, "ENOUGH", 2)
    monkeypatch.setattr(searching, "MANY", 8)
    monkeypatch.setattr(searching, "INDEXED", 5)


@pytest.mark.usefixtures("narrow")
def test_a_rare_word_is_found_however_old_it_is(api: Api, said: Said) -> None:
    wanted, named = said("a gale"), said("calm", name="Gale")
    for _ in range(10):
        said("calm")
    response = search(api, "gale")
    assert [row["sessionId"] for row in response.json()] == [named.id, wanted.id]
    assert "X-Search-Incomplete" not in response


@pytest.mark.usefixtures("narrow")
def test_of_a_common_word_the_newest_are_ranked_and_the_answer_says_so(
    api: Api, said: Said
) -> None:
    made = [said("a gale").id for _ in range(6)]
    response = search(api, "gale")
    assert [row["sessionId"] for row in response.json()] == made[:1:-1]
    assert (response["X-Total-Count"], response["X-Search-Incomplete"]) == ("4", "true")


@pytest.mark.usefixtures("narrow")
def test_of_a_word_neither_rare_nor_common_more_of_the_newest_are_ranked(
    api: Api, said: Said
) -> None:
    made = [said("a gale").id for _ in range(8)]
    for _ in range(4):
        said("calm")
    response = search(api, "gale")
    assert [row["sessionId"] for row in response.json()] == made[:3:-1]
    assert response["X-Search-Incomplete"] == "true"


def test_the_words_of_the_longest_messages_can_be_searched_and_nothing_is_too_long(
    api: Api, session: Session
) -> None:
    texts = ["early " + "word " * 400_000, "w" * 2_000_000, "early " + "é" * 300_000]
    many = " ".join(f"{n:x}" for n in range(300_000))
    for content in (*texts, many):
        made = api("post", f"/sessions/{session.id}/messages", {"content": content})
        assert made.status_code == 201
        sent = api("post", f"/sessions/{session.id}/send-message", {"content": content})
        assert sent.status_code == 202
    assert found(api, "early") == [session.id]
    kept = api("get", f"/sessions/{session.id}/messages?limit=1").json()["messages"]
    assert kept[0]["content"] == many


def test_messages_answer_without_what_searching_needs(api: Api, session: Session) -> None:
    messages.add(session.id, "hello")
    (message,) = api("get", f"/sessions/{session.id}/transcript?limit=1").json()
    assert "words" not in message


WORD = "Überraschungsgäste"


@pytest.mark.parametrize("said_as", ["NFC", "NFD"])
@pytest.mark.parametrize("asked_as", ["NFC", "NFD"])
def test_a_word_is_found_in_either_unicode_form_and_kept_as_it_was_sent(
    api: Api, said: Said, said_as: str, asked_as: str
) -> None:
    sent = unicodedata.normalize(said_as, f"Es kamen {WORD}, Café")
    session = said(sent)
    asked = unicodedata.normalize(asked_as, WORD)
    [row] = search(api, asked).json()
    assert (row["sessionId"], row["match"]["seq"]) == (session.id, 1)
    assert unicodedata.normalize("NFC", row["match"]["snippet"]) == f"Es kamen ⟦{WORD}⟧, Café"
    assert found(api, unicodedata.normalize(asked_as, '"gäste cafe"')) == []
    phrase = unicodedata.normalize(asked_as, f'"{WORD} Café"')
    assert found(api, phrase) == [session.id]
    kept = api("get", f"/sessions/{session.id}/messages").json()["messages"]
    assert kept[0]["content"] == sent
    named = said("x", name=unicodedata.normalize(said_as, "Ångström"))
    assert found(api, unicodedata.normalize(asked_as, "ångström")) == [named.id]


FILLS = {
    "many words": " ".join(f"w{n}" for n in range(20_000)),
    "one word often": "brown " * 400,
    "both often": "fox brown cat fox " * 400,
    "beyond what is placed": "filler words " * 12_000,
    "two megabytes": " ".join(f"w{n % 5000} {n % 7}" for n in range(250_000)),
}


@pytest.mark.parametrize("fill", FILLS)
def test_a_phrase_late_in_a_long_message_is_found(api: Api, said: Said, fill: str) -> None:
    session = said(f"{FILLS[fill]}\nThe quick brown fox-jumps. Ends here")
    backwards = said(f"{FILLS[fill]}\nA fox that is brown, quick to jump")
    assert found(api, '"quick brown fox jumps"') == [session.id]
    assert found(api, '"quick brown fox jumps" here "the quick"') == [session.id]
    assert found(api, '"quick brown fo') == [session.id]
    assert found(api, '"quick fox"') == []
    assert found(api, '"quick brown" wolf') == []
    assert found(api, '"quick brown" -here') == []
    assert found(api, "jumps ends") == [session.id]
    assert backwards.id in found(api, "brown fox quick")
    assert "⟦" in search(api, '"fox jumps"').json()[0]["match"]["snippet"]


def test_a_message_of_more_different_words_than_a_vector_holds_is_taken(
    api: Api, said: Said
) -> None:
    text = " ".join(f"{n:x}z{n * 7919:x}" for n in range(140_000))
    session = said(f"first {text}")
    assert found(api, "first") == [session.id]


def test_a_word_across_the_border_of_two_pieces_is_found(api: Api, said: Said) -> None:
    for border in (99_995, 199_695, 199_995):
        session = said("x " * (border // 2) + "borderline case")
        assert found(api, "borderline") == [session.id]
        assert found(api, '"borderline case"') == [session.id]
        sessions.delete(session.id)
