"""`python -m tests.bench`: see `--help`."""

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "amplifierd.settings")
django.setup()

from tests.bench.command import Command  # noqa: E402

Command().run_from_argv([sys.executable, "-m tests.bench", *sys.argv[1:]])
