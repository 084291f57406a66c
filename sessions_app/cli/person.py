"""Who sits at this terminal."""

import getpass


def name() -> str:
    """Return the person's name on this machine; empty where there is none."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        return ""
