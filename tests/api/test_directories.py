"""GET /amplified-directories/ and /amplified-directories/{path}."""

from pathlib import Path

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from profiles_app.models import AmplifiedDirectory

BASE = "/api/v1/amplified-directories"


@pytest.fixture(autouse=True)
def root(catalogue: None, tmp_path: Path, settings: Settings) -> Path:
    settings.ROOT_DIR = tmp_path
    return tmp_path


@pytest.fixture
def app() -> AmplifiedDirectory:
    return AmplifiedDirectory.objects.create(
        relative_path="projects/app",
        default_profile="foundation/test",
        metadata={"name": "App", "api_key": "sk-canary"},
    )


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_root_is_always_listed(client: Client, slash: str) -> None:
    answer = client.get(f"{BASE}{slash}").json()
    assert [item["relativePath"] for item in answer["directories"]] == ["."]
    assert answer["total"] == 1


@pytest.mark.parametrize("path", ["root", "root/", "./", "%2E"])
def test_the_root_has_a_name_that_browsers_can_write(client: Client, path: str) -> None:
    assert client.get(f"{BASE}/{path}").json()["relativePath"] == "."


@pytest.mark.parametrize("path", ["projects/app", "projects/app/", "projects%2Fapp"])
def test_a_directory_answers_in_both_casings(
    client: Client, app: AmplifiedDirectory, root: Path, path: str
) -> None:
    answer = client.get(f"{BASE}/{path}").json()
    assert answer["relativePath"] == answer["relative_path"] == "projects/app"
    assert answer["defaultProfile"] == answer["default_profile"] == "foundation/test"
    assert answer["isAmplified"] is answer["is_amplified"] is True
    assert answer["createdAt"] == answer["created_at"]
    assert answer["updatedAt"] == answer["updated_at"]
    assert answer["path"] == str(root / "projects/app")


def test_times_are_utc_with_microseconds(client: Client) -> None:
    created = AmplifiedDirectory.objects.get().created_at.replace(microsecond=0)
    AmplifiedDirectory.objects.update(created_at=created)
    answer = client.get(f"{BASE}/root").json()
    assert answer["createdAt"] == created.strftime("%Y-%m-%dT%H:%M:%S.000000Z")


def test_metadata_name_the_profile_that_counts(client: Client, app: AmplifiedDirectory) -> None:
    AmplifiedDirectory.objects.create(relative_path="projects/app/deep", metadata={"name": "Deep"})
    answer = client.get(f"{BASE}/projects/app/deep").json()
    assert answer["metadata"] == {"name": "Deep", "default_profile": "foundation/test"}
    assert answer["defaultProfile"] == "foundation/test"


def test_secrets_in_metadata_are_masked(client: Client, app: AmplifiedDirectory) -> None:
    for path in ("", "/projects/app"):
        assert b"sk-canary" not in client.get(f"{BASE}{path}").content


def test_the_list_takes_one_query_however_long_it_is(
    client: Client, app: AmplifiedDirectory, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(5):
        AmplifiedDirectory.objects.create(relative_path=f"projects/app/{number}")
    with django_assert_num_queries(1):
        answer = client.get(f"{BASE}/").json()
    assert {item["defaultProfile"] for item in answer["directories"][1:]} == {"foundation/test"}


@pytest.mark.parametrize("path", ["missing", "projects", "projects/app/deeper"])
def test_a_directory_that_is_not_amplified_is_not_found(
    client: Client, app: AmplifiedDirectory, path: str
) -> None:
    response = client.get(f"{BASE}/{path}")
    assert response.status_code == 404
    assert response.json()["code"] == "not_found"


@pytest.mark.parametrize("path", ["a%2F..%2Fb", "%2Fetc", "a%5Cb", "a%00b"])
def test_a_path_that_could_lead_elsewhere_is_refused(client: Client, path: str) -> None:
    response = client.get(f"{BASE}/{path}")
    assert response.status_code == 400
    assert response.json()["code"] == "invalid"
