"""`python -m amplifierd`: the daemon starts its own processes with it."""

from amplifierd.commandline import main

main()
