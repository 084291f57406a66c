"""Backups of an installation: everything that its database has, in one file."""
