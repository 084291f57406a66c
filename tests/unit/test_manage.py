"""`manage.py`: how a command ends."""

import pytest

from amplifierd import commandline


def test_ctrl_c_ends_a_command_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(argv: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commandline, "run", interrupted)
    with pytest.raises(SystemExit) as ended:
        commandline.main(["manage.py", "doctor"])
    assert ended.value.code == 130
