"""The console's profiles: edited as texts, compared, taken back, refused with the line."""

import json
import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.http import HttpResponse
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from profiles_app.definition import validate_definition
from profiles_app.models import Profile
from profiles_app.services import profiles

pytestmark = pytest.mark.usefixtures("catalogue")

LIST = "/admin/profiles_app/profile/"
TEXT = """---
schema_version: 2
profile:
  name: mine
  version: "1"
  description: Mine.
providers:
  - module: provider-mock
    config:
      temperature: 0.2
agents:
  critic: Find the flaw.
---

Help.
"""


@pytest.fixture
def mine() -> Profile:
    """The local profile that `TEXT` is."""
    providers = [{"module": "provider-mock", "config": {"temperature": 0.2}}]
    sections = {"providers": providers, "agents": {"critic": "Find the flaw."}}
    content = {"version": "1", "description": "Mine.", "instruction": "Help."}
    return profiles.create("mine", sections=sections, **content)


@pytest.fixture
def reader(client: Client) -> Client:
    """Somebody who may look at profiles only."""
    user = User.objects.create_user("reader", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_profile"))
    client.force_login(user)
    return client


def url(profile: Profile, tail: str = "change/") -> str:
    return f"{LIST}{profile.pk}/{tail}"


def text(client: Client, path: str, **query: Any) -> str:
    response = client.get(path, query)
    assert response.status_code == 200
    return response.content.decode()


def save(client: Client, profile: Profile, content: str, seen: int | str = 1) -> HttpResponse:
    """Send what the editor's form sends: browsers end lines with CR LF."""
    sent = {"text": content.replace("\n", "\r\n"), "expected_version": seen}
    return client.post(url(profile), sent)


def step(client: Client, profile: Profile, name: str, **sent: Any) -> str:
    """Press a button; return the page that follows."""
    page = client.post(url(profile, f"action/{name}/"), sent, follow=True)
    assert page.status_code == 200
    return page.content.decode()


def check(client: Client, content: Any, profile: Profile | None = None) -> Any:
    """Ask what the editor's script asks while somebody types."""
    query = "" if profile is None else f"?profile={profile.pk}"
    body = json.dumps({"text": content})
    return client.post(f"{LIST}check/{query}", body, content_type="application/json")


def field(page: str) -> str:
    """Return what stands in the editor."""
    found = re.search(r"<textarea name=\"text\"[^>]*>\n(.*?)</textarea>", page, re.S)
    assert found
    return found[1]


def test_the_list_shows_where_profiles_come_from_and_which_is_active(
    admin_client: Client, mine: Profile
) -> None:
    profiles.activate("mine")
    page = text(admin_client, LIST)
    assert page.count("badge-active") == 1
    assert re.search(r"local/</span>mine</a> <span class=\"badge badge-active\">", page)
    assert "foundation/production" not in text(admin_client, LIST, q="base")


def test_the_list_costs_the_same_however_long_it_is(
    admin_client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(30):
        profiles.create(f"copy-{number}")
    with django_assert_max_num_queries(8):
        text(admin_client, LIST)


def test_a_page_costs_the_same_however_many_versions_there_are(
    admin_client: Client, mine: Profile, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(30):
        profiles.update("mine", version=str(number + 2))
    for tail in ("change/", "versions/", "versions/compare/", "versions/3/"):
        with django_assert_max_num_queries(9):
            text(admin_client, url(mine, tail))


def test_a_profile_is_shown_as_its_file_has_it(admin_client: Client, mine: Profile) -> None:
    shown = field(text(admin_client, url(mine)))
    assert shown == TEXT.replace('version: "1"', "version: &#x27;1&#x27;").replace(
        "  - ", "- ", 1
    ).replace("    config:\n      temperature", "  config:\n    temperature")


def test_a_text_that_was_not_touched_makes_no_version(admin_client: Client, mine: Profile) -> None:
    page = admin_client.get(url(mine))
    assert save(admin_client, mine, page.context["draft"].text).status_code == 302
    mine.refresh_from_db()
    assert mine.version_number == 1
    assert not LogEntry.objects.exists()


def test_what_is_saved_makes_a_version_and_stands_in_the_history(
    admin_client: Client, mine: Profile
) -> None:
    changed = TEXT.replace("0.2", "0.7").replace("Help.", "Help at once.")
    page = admin_client.get(save(admin_client, mine, changed)["Location"]).content.decode()
    mine.refresh_from_db()
    assert "Saved as version 2." in page
    assert mine.definition["providers"][0]["config"] == {"temperature": 0.7}
    assert (mine.instruction, mine.version_number) == ("Help at once.", 2)
    assert LogEntry.objects.get().change_message == "Saved as version 2."


def test_a_section_that_is_left_out_is_gone(admin_client: Client, mine: Profile) -> None:
    save(admin_client, mine, TEXT.replace("agents:\n  critic: Find the flaw.\n", ""))
    mine.refresh_from_db()
    assert mine.definition["agents"] == {}


MISTAKES = {
    "no fence": ("", "Help.", 1, "begin the file with"),
    "no end": ("---\n\nHelp.", "", 1, "has no end"),
    "schema": ("schema_version: 2", "schema_version: 3", 2, "must be 2"),
    "unknown key at the top": ("agents:", "agent:", 11, "unknown key 'agent'"),
    "unknown key of a module": ("    config:", "    confg:", 9, "unknown key 'confg'"),
    "no name": ("  name: mine\n", "", 3, "profile.name: must be"),
    "another name": ("name: mine", "name: yours", 4, "must be 'mine'"),
    "no description": ("description: Mine.", "description:", 6, "is missing"),
    "a number for a text": ('version: "1"', "version: 1", 5, "put it in quotes"),
    "no list": ("  - module: provider-mock\n    config:", "  module:", 7, "must be a list"),
    "tab": ("      temperature", "\ttemperature", 10, "Indent with spaces"),
    "open quote": ('"1"', '"1', 5, "the quote that begins here has no end"),
    "twice": ("  name: mine", "  name: mine\n  name: mine", 5, "stands twice"),
    "alias": ("description: Mine.", "description: *x", 6, "aliases are not read"),
    "tag": ("description: Mine.", "description: !!str x", 6, "tags are not read"),
    "secret": ("temperature: 0.2", "api_key: sk-canary", 10, "a secret is never stored"),
    "mask": ("temperature: 0.2", 'api_key: "********"', 10, "a secret is never stored"),
    "blank text": ("critic: Find the flaw.", 'critic: " "', 12, "not blank"),
    "unknown module": ("provider-mock", "provider-mok", 8, "There is no provider module"),
    "no reference": ("temperature: 0.2", "base_url: ${1}", 10, "A reference is written ${NAME}"),
}
# The text can be saved all the same: what it needs may come later.
MILD = ("no reference",)


def wrong(name: str) -> str:
    before, after, _, _ = MISTAKES[name]
    return TEXT.replace(before, after, 1) if before else after


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_shown_with_its_line(admin_client: Client, mine: Profile, name: str) -> None:
    _, _, line, detail = MISTAKES[name]
    answer = check(admin_client, wrong(name), mine).json()
    [mistake] = answer["mistakes"]
    assert detail in mistake["detail"]
    assert mistake["line"] == line
    assert answer["is_wrong"] == mistake["is_grave"] == (name not in MILD)
    assert "sk-canary" not in mistake["detail"]


@pytest.mark.parametrize("name", [name for name in MISTAKES if name not in MILD])
def test_without_scripts_a_mistake_is_shown_on_saving(
    admin_client: Client, mine: Profile, name: str
) -> None:
    response = save(admin_client, mine, wrong(name))
    assert response.status_code == 200
    page = response.content.decode()
    assert f"<strong>Line {MISTAKES[name][2]}</strong>" in page
    assert response.context["draft"].text == wrong(name)
    mine.refresh_from_db()
    assert mine.version_number == 1


@pytest.mark.parametrize("name", MILD)
def test_what_no_session_could_run_is_saved_with_a_warning(
    admin_client: Client, mine: Profile, name: str
) -> None:
    response = save(admin_client, mine, wrong(name))
    page = admin_client.get(response["Location"]).content.decode()
    assert f'<li class="warning">Line {MISTAKES[name][2]}: ' in page
    assert 'class="is-mild"' in page


def test_a_right_text_has_no_mistakes(admin_client: Client, mine: Profile) -> None:
    assert check(admin_client, TEXT, mine).json() == {"mistakes": [], "is_wrong": False}


def test_all_that_would_not_compile_is_shown_at_once(admin_client: Client, mine: Profile) -> None:
    twice = wrong("unknown module").replace("agents:", "tools:\n  - module: tool-none\nagents:")
    lines = [one["line"] for one in check(admin_client, twice, mine).json()["mistakes"]]
    assert lines == [8, 12]


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"text": 1}', '{"text": null}', "[" * 100_000, "\xff"]
)
def test_a_check_of_nothing_is_refused(admin_client: Client, mine: Profile, body: str) -> None:
    path = f"{LIST}check/?profile={mine.pk}"
    response = admin_client.post(path, body.encode("latin-1"), content_type="application/json")
    assert (response.status_code, response.json()["code"]) == (400, "invalid")


@pytest.mark.parametrize("key", ["", "x", "0", "9" * 30, "-1", "²"])
def test_a_check_for_no_profile_is_not_found(admin_client: Client, key: str) -> None:
    body = json.dumps({"text": TEXT})
    path = f"{LIST}check/?profile={key}"
    assert admin_client.post(path, body, content_type="application/json").status_code == 404


@pytest.mark.parametrize("content", ["---\n\ud800", "---\n\0", "x" * 300_000, "---\na: [" * 9000])
def test_no_text_breaks_the_check(admin_client: Client, mine: Profile, content: str) -> None:
    answer = check(admin_client, content, mine)
    assert answer.status_code == 200
    assert answer.json()["is_wrong"]


def test_a_check_is_a_post(admin_client: Client) -> None:
    assert admin_client.get(f"{LIST}check/").status_code == 405


def test_a_stale_page_is_refused_with_the_difference(admin_client: Client, mine: Profile) -> None:
    profiles.update("mine", instruction="Help kindly.")
    response = save(admin_client, mine, TEXT.replace("Help.", "Help quickly."))
    page = response.content.decode()
    assert "Not saved: the profile was changed meanwhile" in page
    assert "<del>kindly</del>" in page
    assert "<ins>quickly</ins>" in page
    assert "Help quickly." in response.context["draft"].text
    mine.refresh_from_db()
    assert mine.instruction == "Help kindly."
    again = save(admin_client, mine, response.context["draft"].text, response.context["draft"].seen)
    assert again.status_code == 302
    mine.refresh_from_db()
    assert (mine.instruction, mine.version_number) == ("Help quickly.", 3)


@pytest.mark.parametrize("seen", ["", "x", "0", "7", "-1", "9" * 40])
def test_a_page_that_names_no_version_overwrites_nothing(
    admin_client: Client, mine: Profile, seen: str
) -> None:
    response = save(admin_client, mine, TEXT.replace("Help.", "No."), seen)
    assert response.context["draft"].is_stale
    mine.refresh_from_db()
    assert mine.instruction == "Help."


def test_hostile_texts_do_nothing(admin_client: Client, mine: Profile) -> None:
    bad = "</textarea><script>alert(1)</script> {{ 7|add:7 }} \u202egnp.exe"
    save(admin_client, mine, TEXT.replace("Help.", bad))
    for tail in ("change/", "versions/compare/", "versions/2/", "versions/"):
        page = text(admin_client, url(mine, tail))
        assert "<script>alert" not in page
        assert "{{ 7|add:7 }}" in page or tail == "versions/"
    assert "\u202e" not in text(admin_client, url(mine, "versions/compare/"))


def test_a_shipped_profile_is_read_and_offered_to_be_copied(admin_client: Client) -> None:
    base = Profile.objects.get(name="base")
    page = text(admin_client, url(base))
    assert "Copy to edit" in page
    assert "<textarea name" not in page
    assert save(admin_client, base, TEXT).status_code == 403
    page = step(admin_client, base, "copy", new_name="base")
    assert "This is local/base, a copy of foundation/base." in page
    assert "module: provider-local" in field(page)
    assert LogEntry.objects.get().change_message == "Copied from foundation/base."


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("mine", "Choose another name"),
        ("No!", "lower-case letters"),
        ("", "1 to 64"),
        ("copy", "URLs"),
    ],
)
def test_a_copy_is_refused_with_the_reason(
    admin_client: Client, mine: Profile, name: str, why: str
) -> None:
    assert why in step(admin_client, mine, "copy", new_name=name)
    assert Profile.objects.filter(collection="local").count() == 1


def test_a_profile_is_made_from_a_sketch(admin_client: Client) -> None:
    sketch = admin_client.get(f"{LIST}add/").context["draft"].text
    assert check(admin_client, sketch).json()["mistakes"] == []
    response = admin_client.post(f"{LIST}add/", {"text": sketch})
    made = Profile.objects.get(collection="local")
    assert (response["Location"], str(made)) == (url(made), "local/my-profile")
    assert LogEntry.objects.get().object_id == str(made.pk)


@pytest.mark.parametrize("name", ["mine", "active"])
def test_a_name_that_is_taken_is_shown_at_its_line(
    admin_client: Client, mine: Profile, name: str
) -> None:
    sent = TEXT.replace("name: mine", f"name: {name}")
    page = admin_client.post(f"{LIST}add/", {"text": sent}).content.decode()
    assert "<strong>Line 4</strong>" in page
    assert "choose another name" in page


def test_two_versions_stand_side_by_side(admin_client: Client, mine: Profile) -> None:
    save(admin_client, mine, TEXT.replace("0.2", "0.7").replace("Find the flaw.", "Find all."))
    page = text(admin_client, url(mine, "versions/compare/"))
    assert "<code>providers.provider-mock.config.temperature</code>" in page
    assert "<del>0.2</del>" in page
    assert "<ins>0.7</ins>" in page
    assert "temperature: 0.<del>2</del>" in page
    assert "temperature: 0.<ins>7</ins>" in page
    same = text(admin_client, url(mine, "versions/compare/"), **{"from": 2, "to": 2})
    assert "Nothing: both say the same." in same


@pytest.mark.parametrize("query", ["from=9", "to=0", "from=1&to=99"])
def test_a_version_that_does_not_exist_is_an_error(
    admin_client: Client, mine: Profile, query: str
) -> None:
    page = admin_client.get(f"{url(mine, 'versions/compare/')}?{query}", follow=True)
    assert "has no version" in page.content.decode()


@pytest.mark.parametrize("query", ["from=x", "from=-1", "to=" + "9" * 30, "from="])
def test_what_is_no_number_is_the_default(admin_client: Client, mine: Profile, query: str) -> None:
    assert admin_client.get(f"{url(mine, 'versions/compare/')}?{query}").status_code == 200


def test_an_old_version_is_restored_as_a_new_one(admin_client: Client, mine: Profile) -> None:
    save(admin_client, mine, TEXT.replace("Help.", "Do not."))
    page = step(admin_client, mine, "restore", number=1, expected_version=2)
    mine.refresh_from_db()
    assert "Version 1 restored as version 3." in page
    assert (mine.instruction, mine.version_number) == ("Help.", 3)


def test_a_stale_restore_is_refused(admin_client: Client, mine: Profile) -> None:
    save(admin_client, mine, TEXT.replace("Help.", "Do not."))
    page = step(admin_client, mine, "restore", number=1, expected_version=1)
    assert "The profile is at version 2 and no longer at 1." in page
    mine.refresh_from_db()
    assert mine.instruction == "Do not."


def test_buttons_activate_and_deactivate(admin_client: Client, mine: Profile) -> None:
    assert "is the active profile now" in step(admin_client, mine, "activate")
    assert Profile.objects.active() == mine
    base = Profile.objects.get(name="base")
    step(admin_client, base, "deactivate")
    assert Profile.objects.active() == mine
    assert "No profile is active now." in step(admin_client, mine, "deactivate")
    assert Profile.objects.active() is None


def test_compiling_shows_all_that_is_missing(admin_client: Client, mine: Profile) -> None:
    assert "A session would find all that local/mine names." in step(admin_client, mine, "check")
    content = mine.definition | {"providers": [{"module": "provider-mok"}]}
    Profile.objects.filter(pk=mine.pk).update(definition=validate_definition(content))
    assert "There is no provider module &#x27;provider-mok&#x27;" in step(
        admin_client, mine, "check"
    )


def test_deleting_asks_first_and_refuses_the_active_one(
    admin_client: Client, mine: Profile
) -> None:
    assert "Its 1 version go" in text(admin_client, url(mine, "delete/"))
    profiles.activate("mine")
    page = admin_client.post(url(mine, "delete/"), {"post": "yes"}, follow=True)
    assert "The active profile stays. Deactivate it" in page.content.decode()
    assert not LogEntry.objects.exists()
    profiles.deactivate()
    page = admin_client.post(url(mine, "delete/"), {"post": "yes"}, follow=True)
    assert "The profile local/mine was deleted." in page.content.decode()
    assert not Profile.objects.filter(pk=mine.pk).exists()


def test_a_shipped_profile_is_not_deleted(admin_client: Client) -> None:
    base = Profile.objects.get(name="base")
    page = admin_client.post(url(base, "delete/"), {"post": "yes"}, follow=True).content.decode()
    assert "comes from a file" in page
    assert Profile.objects.filter(pk=base.pk).exists()


def test_secrets_that_are_there_already_are_masked(admin_client: Client, mine: Profile) -> None:
    mine.definition["providers"][0]["config"]["api_key"] = "sk-canary"
    mine.save(update_fields=["definition"])
    for tail in ("change/", "versions/", "versions/compare/", "versions/2/"):
        assert "sk-canary" not in text(admin_client, url(mine, tail))
    assert "a secret is never stored" in text(admin_client, url(mine))


def test_who_may_only_look_can_only_look(reader: Client, mine: Profile) -> None:
    page = text(reader, url(mine))
    assert "<textarea name" not in page
    assert "/action/activate/" not in page
    assert save(reader, mine, TEXT).status_code == 403
    assert reader.get(f"{LIST}add/").status_code == 403
    assert reader.post(url(mine, "delete/"), {"post": "yes"}).status_code == 403
    for name in ("activate", "deactivate", "copy", "restore"):
        assert reader.post(url(mine, f"action/{name}/")).status_code == 403
    assert Profile.objects.active() is None


def test_strangers_are_sent_to_the_login(client: Client, mine: Profile) -> None:
    pages = (LIST, f"{LIST}add/", f"{LIST}check/", *(url(mine, tail) for tail in TAILS))
    for path in pages:
        assert client.get(path)["Location"].startswith("/admin/login/")


TAILS = ("change/", "delete/", "versions/", "versions/1/", "versions/compare/", "action/activate/")


def test_what_does_not_exist_is_404(admin_client: Client, mine: Profile) -> None:
    gone = f"{LIST}{mine.pk + 100}/"
    for tail in ("change/", "delete/", "versions/", "versions/1/", "versions/compare/"):
        assert admin_client.get(f"{gone}{tail}").status_code == 404
    assert admin_client.post(url(mine, "action/explode/")).status_code == 404
    assert admin_client.get(url(mine, "action/activate/")).status_code == 405


def test_a_step_needs_the_csrf_token(mine: Profile, admin_user: User) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(admin_user)
    assert strict.post(url(mine, "action/activate/")).status_code == 403
    assert check(strict, TEXT, mine).status_code == 403
    assert Profile.objects.active() is None
