"""`python -m amplifierd`, which the daemon starts its own processes by."""

from amplifierd.commandline import main

main()
