"""Options that several commands have."""

from django.core.management.base import CommandParser


def add_proxy_option(parser: CommandParser) -> None:
    """Add `--behind-proxy`; `manage.py` itself reads it, before the settings."""
    parser.add_argument(
        "--behind-proxy",
        action="store_true",
        help="a proxy that ends TLS is before it (AMPLIFIERD_BEHIND_PROXY=1)",
    )
