#!/usr/bin/env python
"""The command line of amplifierd, from a checkout; installed, it is `amplifierd`."""

from amplifierd.commandline import main

if __name__ == "__main__":
    main()
