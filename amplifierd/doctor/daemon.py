"""The daemon of this data folder, as it has written itself down."""

import json
from typing import Any

import psutil
from django.conf import settings


def noted() -> dict[str, Any] | None:
    """Return the `pid` and `url` of the daemon that runs on this data folder, None without one.

    The note of one that was killed stays behind: what counts is whether its process is there.
    """
    try:
        note = json.loads((settings.HOME / "serve.lock").read_text())
        is_alive = "serve" in psutil.Process(int(note["pid"])).cmdline()
        return {"pid": int(note["pid"]), "url": str(note["url"])} if is_alive else None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
