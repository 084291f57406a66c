"""`make` finds a Python that will do, and says what is missing before it downloads anything."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("awk", "cat", "dirname", "grep", "mkdir", "mktemp", "rm", "sh", "sort", "tail", "tr")

# A program that is this Python under another version, as far as it can tell.
PYTHON = """#!/bin/sh
exec {real} -c 'import sys
_, _, _, code, *arguments = sys.argv[1:]
sys.version_info, sys._base_executable = {version}, "{path}"
sys.argv = ["-c", *arguments]
if "ensurepip" in code: sys.exit({without_pip})
exec(code)' "$0" "$@"
"""
# It "installs" into whatever Python is not listed in $NO_WHEELS, and writes down what it was told.
UV = """#!/bin/sh
echo "$*" >>"{log}"
case "$1" in
venv) for venv; do :; done; mkdir -p "$venv/bin" && echo "$*" >"$venv/made" ;;
pip)
    case "$(cat "{venv}/made")" in
    *"${{NO_WHEELS:-nothing}}"*) echo "no wheels" >&2; exit 1 ;;
    esac ;;
esac
"""
SHIM = "#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n"


class Machine:
    """A PATH of a test's own, with the Pythons that it needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.venv = folder / "venv"
        self.log = folder / "uv.log"
        self.tools = folder / "tools"
        self.tools.mkdir()
        for tool in TOOLS:
            (self.tools / tool).symlink_to(str(shutil.which(tool, path="/usr/bin:/bin")))
        self.path: list[Path] = [self.tools]

    def program(self, folder: str, name: str, text: str) -> Path:
        directory = self.folder / folder
        directory.mkdir(exist_ok=True)
        if directory not in self.path:
            self.path.append(directory)
        program = directory / name
        program.write_text(text)
        program.chmod(0o755)
        return program

    def python(self, name: str, version: str, *, folder: str = "bin", pip: bool = True) -> Path:
        numbers, _, level = version.partition(" ")
        found = f'({numbers.replace(".", ", ")}, "{level or "final"}", 0)'
        path = self.folder / folder / name
        text = PYTHON.format(
            real=sys.executable, version=found, path=path, without_pip=0 if pip else 1
        )
        return self.program(folder, name, text)

    def uv(self) -> None:
        self.program("bin", "uv", UV.format(log=self.log, venv=self.venv))

    def make(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", str(ROOT / "deploy" / "make_venv.sh"), str(self.venv), "requirements.txt"],
            env={"PATH": os.pathsep.join(map(str, self.path)), **environment},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_newest_is_taken_wherever_it_is_on_path(machine: Machine) -> None:
    machine.uv()
    machine.python("python3", "3.11.2")
    machine.python("python3.9", "3.9.18")
    newest = machine.python("python3.13", "3.13.0", folder="later")
    assert machine.make().returncode == 0
    assert f"--python {newest} " in machine.log.read_text()


@pytest.mark.parametrize("version", ["3.11.2", "3.11.7", "3.14.0"])
def test_these_will_do(machine: Machine, version: str) -> None:
    machine.uv()
    machine.python("python3", version)
    assert machine.make().returncode == 0


@pytest.mark.parametrize("version", ["3.11.1", "3.10.13", "3.15.0 alpha"])
def test_these_are_refused_by_name_before_anything_is_made(machine: Machine, version: str) -> None:
    found = machine.python("python3", version)
    refused = machine.make()
    assert refused.returncode == 1
    assert "needs Python 3.11.2 or newer" in refused.stderr
    assert f"{found}  {version.partition(' ')[0]}, " in refused.stderr
    assert not machine.venv.exists()


def test_a_shim_that_stands_for_nothing_is_passed_over(machine: Machine) -> None:
    machine.uv()
    machine.program("shims", "python3.12", SHIM)
    real = machine.python("python3.12", "3.12.1", folder="later")
    assert machine.make().returncode == 0
    assert f"--python {real} " in machine.log.read_text()


def test_a_shim_alone_is_named(machine: Machine) -> None:
    shim = machine.program("shims", "python3.12", SHIM)
    refused = machine.make()
    assert refused.returncode == 1
    assert f"{shim}  does not run" in refused.stderr


def test_without_any_python_it_says_so(machine: Machine) -> None:
    refused = machine.make()
    assert refused.returncode == 1
    assert "no python3 at all" in refused.stderr


def test_a_python_without_wheels_gives_way_to_an_older_one(machine: Machine) -> None:
    machine.uv()
    newer = machine.python("python3.15", "3.15.0", pip=False)
    older = machine.python("python3.12", "3.12.1")
    made = machine.make(NO_WHEELS=str(newer))
    assert made.returncode == 0
    assert "not possible with Python 3.15.0" in made.stdout
    assert "no wheels" in made.stdout
    assert f"--python {older} " in (machine.venv / "made").read_text()


def test_a_python_without_venv_is_named_with_the_package_that_brings_it(machine: Machine) -> None:
    machine.python("python3.11", "3.11.2", pip=False)
    refused = machine.make()
    assert refused.returncode == 1
    assert "sudo apt-get install python3.11-venv" in refused.stdout
    assert not machine.venv.exists()


def test_what_another_python_has_left_is_removed(machine: Machine) -> None:
    machine.uv()
    machine.python("python3", "3.12.1")
    (machine.venv / "lib").mkdir(parents=True)
    (machine.venv / "lib" / "old").touch()
    assert machine.make().returncode == 0
    assert not (machine.venv / "lib" / "old").exists()


def test_the_floor_is_said_alike_everywhere() -> None:
    for place in ("README.md", "requirements.txt", "Makefile", "deploy/make_venv.sh"):
        assert "3.11.2" in (ROOT / place).read_text(), place
