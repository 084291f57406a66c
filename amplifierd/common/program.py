"""What to type to run a command: `manage.py X` in a checkout, `amplifierd X` if installed."""

from pathlib import Path

BASE_DIR = Path(__file__).resolve().parents[2]
IS_CHECKOUT = (BASE_DIR / "manage.py").exists()


PROGRAM = "manage.py" if IS_CHECKOUT else "amplifierd"


def command(arguments: str) -> str:
    """Return what to type to run a command, for messages."""
    return f"{PROGRAM} {arguments}"
