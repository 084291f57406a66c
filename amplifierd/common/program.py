"""What to type to run a command: `manage.py X` in a checkout, `amplifierd X` if installed."""

from pathlib import Path

BASE_DIR = Path(__file__).resolve().parents[2]
IS_CHECKOUT = (BASE_DIR / "manage.py").exists()


def program() -> str:
    """Return the name under which this program is started here."""
    return "manage.py" if IS_CHECKOUT else "amplifierd"


def command(arguments: str) -> str:
    """Return what to type to run a command, for messages."""
    return f"{program()} {arguments}"
