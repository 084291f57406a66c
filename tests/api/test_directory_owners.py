"""Directories have owners: what these may do, what is shared with others, and how."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from amplifierd.auth import keys
from amplifierd.common.callers import Everyone, Owner
from profiles_app.access import Access, Reach
from profiles_app.models import AmplifiedDirectory
from profiles_app.services import access, directories, directory_browser, profiles
from sessions_app.engine.base import EngineError, Turn
from sessions_app.engine.capabilities import ToolCapabilities
from sessions_app.engine.context import build_instructions
from sessions_app.engine.tools.base import ToolError, Workplace
from sessions_app.models import Session
from sessions_app.services import attempts, runs, sub_sessions
from sessions_app.worker.turns import read_turn
from tests.api.callers import Caller
from tests.conftest import Api
from tests.harness.tools import with_tools

PATH = "/amplified-directories"


@pytest.fixture(autouse=True)
def root(catalogue: None, settings: Any, tmp_path: Path) -> Path:
    """A daemon that requires keys, and its root directory."""
    settings.REQUIRE_KEYS = True
    settings.ROOT_DIR = tmp_path / "root"
    settings.ROOT_DIR.mkdir()
    return Path(settings.ROOT_DIR)


@pytest.fixture
def admin(api: Api) -> Caller:
    return Caller(api, "root", "admin")


def own(path: str, owner: str | None, **shares: str) -> AmplifiedDirectory:
    """Amplify a directory for an owner, and put a file into it."""
    found = directories.amplify(path, owner=owner, shares=shares, sees=Everyone())
    (directories.absolute_path(path) / "notes.txt").write_text(f"Notes of {owner}.")
    return found


def status(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def begin(caller: Caller, directory: str, profile: str = "foundation/test") -> str:
    """Start a session with a message, and return its id."""
    session_id = caller.session(amplified_dir=directory, profile_name=profile)
    assert caller("post", f"/sessions/{session_id}/start").status_code == 204
    runs.send(session_id, "hello")
    return session_id


def turn_of(session_id: str) -> Turn:
    """Return the turn of the session's run, as a worker reads it."""
    attempt = attempts.claim(session_id, "worker")
    assert attempt is not None
    return read_turn(attempt)


# --- Owning ---


def test_an_admin_makes_a_directory_for_an_owner_who_then_does_everything_there(
    admin: Caller, alice: Caller
) -> None:
    made = admin("post", PATH, {"relative_path": "alice", "owner": "alice"})
    assert (made.status_code, made.json()["owner"], made.json()["shares"]) == (201, "alice", {})
    inner = alice("post", PATH, {"relative_path": "alice/app", "metadata": {"a": 1}})
    assert (inner.status_code, inner.json()["owner"]) == (201, "alice")
    assert alice("patch", f"{PATH}/alice/app", {"metadata": {"b": 2}}).status_code == 200
    put = alice("put", f"{PATH}/alice/app/agents", {"content": "Be brief."})
    assert put.status_code == 200
    assert alice("get", f"{PATH}/alice/app").json()["agents_content"] == "Be brief.\n"
    created = alice("post", "/directories/create", {"relative_path": "alice/app/src"})
    assert created.status_code == 201
    assert alice.session(amplified_dir="alice/app")
    assert alice("delete", f"{PATH}/alice/app?remove_marker=true").status_code == 204


def test_an_owner_has_a_limited_number_of_directories(
    bob: Caller, alice: Caller, admin: Caller, settings: Any
) -> None:
    settings.OWNER_DIRECTORIES = 2
    own("bob", "bob")
    own("alice", "alice", bob="write")
    answers = [bob("post", PATH, {"relative_path": f"bob/{n}"}) for n in range(2)]
    assert [each.status_code for each in answers] == [201, 429]
    assert status(answers[1]) == (429, "too_many")
    assert answers[1].headers["Retry-After"]
    assert bob("get", PATH).json()["total"] == 3
    assert alice("post", PATH, {"relative_path": "alice/0"}).status_code == 201
    assert admin("post", PATH, {"relative_path": "bob/by-admin"}).status_code == 201


def test_an_owner_s_request_is_executed_once_under_its_idempotency_key(bob: Caller) -> None:
    own("bob", "bob")
    for path, name in ((PATH, "bob/a"), ("/directories/create", "bob/b")):
        body = {"relative_path": name}
        first, second = (bob("post", path, body, **{"Idempotency-Key": name}) for _ in range(2))
        assert (first.status_code, second.status_code) == (201, 201), first.content
        assert second.headers["Idempotent-Replayed"] == "true"
        assert first.content == second.content


def test_an_owner_sees_its_own_directories_and_what_leads_to_them(
    alice: Caller, admin: Caller, root: Path
) -> None:
    own("alice", "alice")
    own("deep/down/there", "alice")
    own("bob", "bob")
    (root / "deep/else").mkdir()
    (root / "top.txt").write_text("of the operator")
    listed = alice("get", PATH).json()["directories"]
    assert [each["relative_path"] for each in listed] == ["alice", "deep/down/there"]
    assert len(admin("get", PATH).json()["directories"]) == 4
    for path, names in {"": ["alice", "deep"], "deep": ["down"], "deep/down": ["there"]}.items():
        found = alice("get", f"/directories/list?path={path}").json()
        assert found["directories"] == names
        entries = alice("get", f"/directories/files?path={path}").json()["files"]
        assert [entry["name"] for entry in entries] == names
    assert alice("get", f"{PATH}/root").status_code == 404
    assert alice("get", "/directories/list?path=deep/else").status_code == 404


def test_the_root_is_refused_with_what_to_do(alice: Caller, admin: Caller) -> None:
    refused = alice("post", "/sessions/", {})
    assert status(refused) == (403, "permission_denied")
    assert "amplified_dir" in refused.json()["detail"]
    assert status(alice("post", PATH, {"relative_path": "mine"})) == (404, "not_found")
    assert admin.session()


def test_a_directory_that_is_not_there_and_a_stranger_s_get_the_same_answer(
    alice: Caller,
) -> None:
    own("bob", "bob")
    for method, path, body in [
        ("get", PATH + "/{}", None),
        ("patch", PATH + "/{}", {"metadata": {}}),
        ("delete", PATH + "/{}", None),
        ("put", PATH + "/{}/agents", {"content": "x"}),
        ("get", "/directories/list?path={}", None),
        ("get", "/directories/file/content?path={}/notes.txt", None),
        ("post", "/sessions/", {"amplified_dir": "{}"}),
        ("post", "/mount-plans/generate", {"profile_id": "foundation/test", "amplified_dir": "{}"}),
    ]:
        answers = []
        for name in ("bob", "none"):
            given = body and {key: name if item == "{}" else item for key, item in body.items()}
            answer = alice(method, path.format(name), given)
            answers.append((answer.status_code, answer.json()["detail"].replace(name, "NAME")))
        assert answers[0] == answers[1]
        assert answers[0][0] in (400, 404)


def test_a_loopback_daemon_without_keys_has_one_owner_of_all(api: Api, settings: Any) -> None:
    settings.REQUIRE_KEYS = False
    own("bob", "bob")
    assert api("get", f"{PATH}/bob").status_code == 200
    assert api("get", "/directories/file/content?path=bob/notes.txt").status_code == 200
    assert api("post", "/sessions/", {"amplified_dir": "bob"}).status_code == 201
    assert api("post", PATH, {"relative_path": "bob/app"}).status_code == 201


# --- Sharing ---


def test_what_is_shared_read_only_is_read_and_not_changed(alice: Caller, bob: Caller) -> None:
    own("alice", "alice")
    changed = alice("patch", f"{PATH}/alice", {"shares": {"bob": "read"}})
    assert changed.json()["shares"] == {"bob": "read"}
    assert bob("get", f"{PATH}/alice").status_code == 200
    read = bob("get", "/directories/file/content?path=alice/notes.txt").json()
    assert read["content"] == "Notes of alice."
    for method, path, body in [
        ("patch", f"{PATH}/alice", {"metadata": {"a": 1}}),
        ("put", f"{PATH}/alice/agents", {"content": "x"}),
        ("delete", f"{PATH}/alice", None),
        ("post", PATH, {"relative_path": "alice/app"}),
        ("post", "/directories/create", {"relative_path": "alice/app"}),
    ]:
        refused = bob(method, path, body)
        assert status(refused) == (403, "permission_denied")
        assert "read-only" in refused.json()["detail"]
    alice("patch", f"{PATH}/alice", {"shares": {"bob": None}})
    assert bob("get", f"{PATH}/alice").status_code == 404


def test_whoever_may_write_shares_nothing_and_takes_nothing_over(
    alice: Caller, bob: Caller
) -> None:
    own("alice", "alice", **{"*": "write"})
    assert bob("patch", f"{PATH}/alice", {"metadata": {"a": 1}}).status_code == 200
    inner = bob("post", PATH, {"relative_path": "alice/src"})
    assert (inner.json()["owner"], inner.json()["shares"]) == ("alice", {"*": "write"})
    for method, path, body in [
        ("patch", f"{PATH}/alice", {"shares": {"*": "write"}}),
        ("patch", f"{PATH}/alice", {"owner": "bob"}),
        ("delete", f"{PATH}/alice/src", None),
        ("post", PATH, {"relative_path": "alice/lib", "owner": "bob"}),
        ("post", PATH, {"relative_path": "alice/lib", "shares": {"bob": "write"}}),
    ]:
        assert status(bob(method, path, body)) == (403, "permission_denied")
    assert not AmplifiedDirectory.objects.filter(relative_path="alice/lib").exists()


@pytest.mark.parametrize(
    "shares", [{"bob": "all"}, {"bob": True}, {"": "read"}, {"x" * 65: "read"}, {"bob": ["read"]}]
)
def test_a_share_is_to_read_or_to_write(alice: Caller, shares: dict[str, Any]) -> None:
    own("alice", "alice")
    answer = alice("patch", f"{PATH}/alice", {"shares": shares})
    assert status(answer) == (400, "invalid")
    assert AmplifiedDirectory.objects.get(relative_path="alice").shares == {}


@pytest.mark.parametrize(
    "values",
    [{"owner": ""}, {"shares": {"bob": "all"}}, {"shares": {"bob": ["read"]}}, {"shares": []}],
)
def test_postgresql_keeps_owners_and_shares_valid(values: dict[str, Any]) -> None:
    own("alice", "alice")
    with pytest.raises(IntegrityError), transaction.atomic():
        AmplifiedDirectory.objects.filter(relative_path="alice").update(**values)


def test_the_nearest_directory_decides() -> None:
    own("team", "carol", bob="write")
    own("team/alice", "alice")
    for path, expected in [
        ("team/x/y", Access.WRITE),
        ("team/alice", Access.NONE),
        ("team/alice/x", Access.NONE),
        ("team/alicent", Access.WRITE),
        (".", Access.NONE),
    ]:
        assert access.find_access(Owner("bob"), Path(path)) == expected  # type: ignore[arg-type]
    listed = directory_browser.list_directories("team", Owner("bob"))
    assert listed.entries == []


# --- What sessions may do ---


def test_a_session_works_with_the_rights_of_its_owner(bob: Caller) -> None:
    own("team", "carol", bob="read")
    own("team/alice", "alice")
    own("team/bob", "bob")
    reach = turn_of(begin(bob, "team")).reach
    assert [reach.at(path) for path in ((), ("src",), ("alice", "x"), ("bob", "x"))] == [
        Access.READ,
        Access.READ,
        Access.NONE,
        Access.WRITE,
    ]
    assert not reach.is_whole


def test_tools_for_files_keep_to_what_is_shared(root: Path, bob: Caller) -> None:
    own("team", "carol", bob="read")
    own("team/alice", "alice")
    own("team/bob", "bob")
    reach = turn_of(begin(bob, "team")).reach

    async def work(tools: Any) -> list[str]:
        told = []
        for name, *arguments in [
            ("read_file", "notes.txt"),
            ("write_file", "notes.txt", "x"),
            ("write_file", "bob/mine.txt", "x"),
            ("read_file", "alice/notes.txt"),
            ("list_files", ".", "*", True),
        ]:
            try:
                told.append(await tools[name](*arguments))
            except ToolError as error:
                told.append(f"error: {error}")
        return told

    place = Workplace(root / "team", reach=reach)
    read, refused, written, hidden, listed = with_tools("tool-filesystem", place, work)
    assert read.startswith("Notes of carol.")
    assert refused == "error: `notes.txt` is shared with this session read-only."
    assert written == "Wrote 1 bytes to `bob/mine.txt`."
    assert hidden == "error: `alice` does not exist."
    assert "alice" not in listed
    assert "bob/mine.txt" in listed


@pytest.mark.parametrize(
    ("can", "opens"),
    [
        (ToolCapabilities(executes_code=False, touches_files=False), True),
        (ToolCapabilities(executes_code=False, touches_files=True), False),
        (ToolCapabilities(executes_code=False, touches_files=True, keeps_reach=True), True),
        (ToolCapabilities(executes_code=True, touches_files=True, keeps_reach=True), True),
        (ToolCapabilities(), False),
    ],
)
def test_programs_and_unknown_tools_must_keep_to_what_is_shared(
    can: ToolCapabilities, opens: bool
) -> None:
    assert can.may_open(Reach(access=Access.READ)) == opens
    # Programs cannot be told the rules of folders below.
    is_allowed = (opens and not can.executes_code) or not can.touches_files
    assert can.may_open(Reach(below={("alice",): Access.NONE})) == is_allowed
    assert can.may_open(Reach(below={("alice",): Access.WRITE}))


def test_a_share_that_is_withdrawn_ends_with_the_next_run(bob: Caller) -> None:
    team = own("team", "carol", bob="write")
    session_id = begin(bob, "team")
    team.shares = {}
    team.save()
    with pytest.raises(EngineError, match="not shared with the session's owner any more"):
        turn_of(session_id)


def test_a_session_of_an_admin_reaches_everything_while_there_is_an_admin_key(
    admin: Caller,
) -> None:
    first, second = begin(admin, "."), begin(admin, ".")
    assert turn_of(first).reach.is_whole
    keys.revoke(admin.made.prefix)
    with pytest.raises(EngineError, match="not shared"):
        turn_of(second)


def test_a_sub_session_has_the_rights_of_its_owner(bob: Caller) -> None:
    own("team", "carol", bob="read")
    session_id = begin(bob, "team")
    attempt = attempts.claim(session_id, "worker")
    assert attempt is not None
    task = sub_sessions.SubSessionRequest("call", "delegate", {}, "foundation/test", "Look.")
    attempts.park(attempt, [task], {})
    child = Session.objects.get(parent=session_id)
    assert (child.owner, child.amplified_dir) == ("bob", "team")
    assert turn_of(child.pk).reach.access == Access.READ


def test_instructions_come_from_the_operator_and_from_what_may_be_read(
    bob: Caller, root: Path
) -> None:
    own("team", "carol")
    own("team/bob", "bob")
    for path in ("", "team/", "team/bob/"):
        (root / path / "AGENTS.md").write_text(f"These are in {path or 'the root'}.")
    turn = turn_of(begin(bob, "team/bob"))
    text = build_instructions(turn)
    assert "These are in the root." in text
    assert "These are in team/bob/." in text
    assert "These are in team/." not in text
    assert "These are in team/." in build_instructions(replace(turn, reach=Reach()))


def test_files_with_several_names_are_not_followed(
    alice: Caller, root: Path, settings: Any
) -> None:
    own("alice", "alice")
    (root / "alice/again.txt").hardlink_to(root / "alice/notes.txt")
    (root / "alice/AGENTS.md").hardlink_to(root / "alice/notes.txt")
    refused = alice("get", "/directories/file/content?path=alice/again.txt")
    assert status(refused) == (400, "invalid")
    assert "hard links" in refused.json()["detail"]
    turn = turn_of(begin(alice, "alice"))
    assert "hard links" in build_instructions(turn)

    async def work(tools: Any) -> list[str]:
        told = []
        for call in (("read_file", "again.txt"), ("write_file", "again.txt", "x")):
            with pytest.raises(ToolError, match="hard links") as error:
                await tools[call[0]](*call[1:])
            told.append(str(error.value))
        return [*told, await tools["search_files"]("Notes")]

    place = Workplace(root / "alice", reach=turn.reach)
    *_, found = with_tools("tool-filesystem", place, work)
    assert "Notes of alice" not in found
    assert (root / "alice/notes.txt").read_text() == "Notes of alice."
    settings.REQUIRE_KEYS = False
    assert alice("get", "/directories/file/content?path=alice/again.txt").status_code == 200


def test_profiles_are_made_by_admins_as_one_may_be_a_shell(bob: Caller) -> None:
    profiles.create("shell", sections={"tools": [{"module": "tool-bash"}]})
    for method, path in (("post", "/profiles/"), ("patch", "/profiles/local/shell")):
        answer = bob(method, path, {"name": "x", "description": "x"})
        assert status(answer) == (403, "permission_denied")


def test_an_owner_with_one_directory_need_not_name_it(root: Path, api: Api, settings: Any) -> None:
    """Clients that know nothing of owners create sessions without a directory."""
    settings.REQUIRE_KEYS = True
    carol = Caller(api, "carol")
    wanted = {"profile_name": "foundation/test"}
    assert carol("post", "/sessions/", wanted).status_code == 403
    AmplifiedDirectory.objects.create(relative_path="carol", owner="carol")
    AmplifiedDirectory.objects.create(relative_path="carol/inside", owner="carol")
    AmplifiedDirectory.objects.create(relative_path="dave", owner="dave")
    made = carol("post", "/sessions/", wanted)
    assert (made.status_code, made.json()["amplifiedDir"]) == (201, "carol")
    plan = carol("post", "/mount-plans/generate", {"profile_id": "foundation/test"})
    assert plan.status_code == 201
    # What is named is not replaced, and with two there is a choice to make.
    assert carol("post", "/sessions/", {**wanted, "amplified_dir": "."}).status_code == 403
    AmplifiedDirectory.objects.create(relative_path="other", owner="carol")
    assert carol("post", "/sessions/", wanted).status_code == 403
