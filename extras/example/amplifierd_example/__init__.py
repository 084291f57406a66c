"""A provider, a tool and an engine for amplifierd: see docs/extending.md."""
