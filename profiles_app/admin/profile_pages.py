"""What the pages of a profile show."""

from dataclasses import dataclass, field
from typing import Any

from django.urls import reverse

from amplifierd.common.text import visible
from profiles_app.diff import Row, pair_lines
from profiles_app.models import Profile
from profiles_app.profile_format import render_profile
from profiles_app.services.profile_validation import FRONT_LIMIT, Mistake
from profiles_app.services.profiles import find_version, list_versions

# Versions that a profile's page shows; its page of versions goes further back.
VERSIONS = 10
# Characters of a line that a mistake quotes.
QUOTED = 120
SKELETON = """---
schema_version: 2
profile:
  name: my-profile
  version: "1.0.0"
  description: "What it is for, in a sentence."
session:
  orchestrator:
    module: loop-streaming
  context:
    module: context-simple
providers:
  - module: provider-local
    config:
      temperature: 0.2
      max_tokens: 512
---

Say here how the model is to answer.
"""


@dataclass
class Draft:
    """A text in the editor, the version that it was made of, and what is wrong with it."""

    text: str
    seen: int
    mistakes: list[Mistake] = field(default_factory=list)
    refusal: str = ""
    # Where somebody was faster: what differs between what is saved now and this text.
    is_stale: bool = False
    was_seen: int = 0
    differences: list[Row] | None = None

    @property
    def is_wrong(self) -> bool:
        """Tell whether it cannot be saved."""
        return any(mistake.is_grave for mistake in self.mistakes)

    def become_stale(self, current: Profile, text: str, numbers: dict[str, int]) -> None:
        """Show what is saved now beside this text; the next try is made of that."""
        self.is_stale, self.was_seen = True, numbers["expected"]
        self.seen = current.version_number
        self.differences = pair_lines(visible(text), visible(self.text))

    def told(self) -> list[dict[str, Any]]:
        """Return the mistakes, each with the line that it is about."""
        lines = self.text.split("\n")
        return [
            {
                "line": mistake.line,
                "detail": visible(mistake.detail),
                "is_grave": mistake.is_grave,
                "quoted": _quoted(lines, mistake.line),
            }
            for mistake in self.mistakes
        ]


def page(profile: Profile, draft: Draft) -> dict[str, Any]:
    """Return what the template of a profile's page needs."""
    listed = list(list_versions(profile)[: VERSIONS + 1])
    return {
        "title": str(profile),
        "profile": profile,
        "draft": draft,
        "check_url": f"{reverse('admin:profiles_app_profile_check')}?profile={profile.pk}",
        "versions": listed[:VERSIONS],
        "has_more_versions": len(listed) > VERSIONS,
        "first": listed[1].number if len(listed) > 1 else 0,
        "second": profile.version_number,
        "copy_name": f"{profile.name[:58]}-copy" if profile.is_local else profile.name,
        "next_number": profile.version_number + 1,
        "is_long": draft.text.find("\n---\n", 4) > FRONT_LIMIT,
    }


def new_page(draft: Draft) -> dict[str, Any]:
    """Return what the template needs for a profile that is to be."""
    check_url = reverse("admin:profiles_app_profile_check")
    return {"title": "New profile", "draft": draft, "check_url": check_url, "may_edit": True}


def version_text(profile: Profile, number: int) -> str:
    """Return a version as its file has it, secrets masked; raise VersionNotFound."""
    return render_profile(find_version(profile, number))


def page_url(profile: Profile) -> str:
    """Return the console's page of a profile."""
    return reverse("admin:profiles_app_profile_change", args=[profile.pk])


def _quoted(lines: list[str], number: int) -> str:
    line = lines[number - 1].strip() if 0 < number <= len(lines) else ""
    return visible(line if len(line) <= QUOTED else f"{line[:QUOTED]}…")
