"""How this program is started, and where its data folder and `.env` file are."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parents[2]
IS_CHECKOUT = (BASE_DIR / "manage.py").exists()
DEFAULT_HOME = Path("~/.amplifierd")


def data_folder() -> Path:
    return Path(os.environ.get("AMPLIFIERD_HOME") or DEFAULT_HOME).expanduser()


def env_file() -> Path:
    """Return the `.env` file: beside `manage.py`, or in the data folder of an installed package."""
    return (BASE_DIR if IS_CHECKOUT else data_folder()) / ".env"


def program() -> str:
    """Return the name of this program: `manage.py` in a checkout, `amplifierd` if installed."""
    return "manage.py" if IS_CHECKOUT else "amplifierd"


def command(arguments: str) -> str:
    """Return what to type to run a command, for messages."""
    return f"{program()} {arguments}"
