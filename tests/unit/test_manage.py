"""`manage.py`: how a command ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from amplifierd import commandline


def test_ctrl_c_ends_a_command_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(argv: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commandline, "run", interrupted)
    with pytest.raises(SystemExit) as ended:
        commandline.main(["manage.py", "doctor"])
    assert ended.value.code == 130


LOADED = """
import sys
from amplifierd import commandline
commandline.main(["manage.py", "console_link"])
slow = ("django.contrib.admin", "django.contrib.auth", "rest_framework", "sessions_app")
print([name for name in slow if name in sys.modules])
"""


def test_a_link_is_printed_without_apps_and_database(tmp_path: Path) -> None:
    environment = {**os.environ, "AMPLIFIERD_HOME": str(tmp_path), "DATABASE_URL": ""}
    done = subprocess.run(
        [sys.executable, "-c", LOADED], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    link, loaded = done.stdout.splitlines()
    assert "/admin/sign-in/" in link
    assert loaded == "[]"
    assert {file.name for file in tmp_path.iterdir()} <= {"secret_key", "signin"}


def test_a_link_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    for extra, name in ({"AMPLIFIERD_PORT": "x"}, "AMPLIFIERD_PORT"), ({}, "createsuperuser"):
        environment = {**os.environ, "AMPLIFIERD_HOME": str(tmp_path), "AMPLIFIERD_HOST": "0.0.0.0"}
        done = subprocess.run(
            [sys.executable, "manage.py", "console_link"],
            env={**environment, **extra},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert name in done.stderr
        assert "Traceback" not in done.stderr
