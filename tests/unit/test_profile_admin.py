"""Amplified directories in the console."""

import pytest
from django.test import Client

from profiles_app.models import AmplifiedDirectory

pytestmark = pytest.mark.usefixtures("catalogue")


def url(page: AmplifiedDirectory, action: str = "change") -> str:
    return f"/admin/profiles_app/{page._meta.model_name}/{page.pk}/{action}/"


def test_directories_show_the_profile_that_counts(admin_client: Client) -> None:
    AmplifiedDirectory.objects.create(relative_path="a/b")
    content = admin_client.get("/admin/profiles_app/amplifieddirectory/").content.decode()
    assert content.count("foundation/base") == 2


def test_a_directory_takes_a_known_profile_only(admin_client: Client) -> None:
    directory = AmplifiedDirectory.objects.create(relative_path="a")
    changes = {"default_profile": "missing", "metadata": "{}"}
    assert "There is no profile" in admin_client.post(url(directory), changes).content.decode()
    changes["default_profile"] = "production"
    assert admin_client.post(url(directory), changes).status_code == 302
    directory.refresh_from_db()
    assert directory.default_profile == "foundation/production"


def test_the_root_cannot_be_deleted(admin_client: Client) -> None:
    root = AmplifiedDirectory.objects.get()
    assert admin_client.post(url(root, "delete"), {"post": "yes"}).status_code == 403
    assert (
        "must be a mapping"
        in admin_client.post(
            url(root), {"default_profile": "base", "metadata": "[1]"}
        ).content.decode()
    )
