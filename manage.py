#!/usr/bin/env python
"""The command line of amplifierd."""

import os
import sys


def main() -> None:
    """Run a management command."""
    # Most settings follow from it, so it must be known before they are read.
    if "--behind-proxy" in sys.argv:
        os.environ["AMPLIFIERD_BEHIND_PROXY"] = "1"
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "amplifierd.settings")
    try:
        from amplifierd.commandline import run

        run(sys.argv)
    except KeyboardInterrupt:
        # Also while all is still being loaded: who stopped it knows why it ends.
        sys.exit(130)


if __name__ == "__main__":
    main()
