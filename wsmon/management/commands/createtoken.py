"""``manage.py createtoken NAME --scope monitoring:read ...``: make an API token and show it once."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from wsmon import tokens
from wsmon.audit import Actor


class Command(BaseCommand):
    """The token alone goes to standard output, so that ``TOKEN=$(manage.py createtoken ...)`` works."""

    help = "Create an API token. It is printed once and kept only as a hash."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the name and the scopes."""
        parser.add_argument("name", help="who or what will use it, e.g. grafana")
        parser.add_argument(
            "--scope",
            dest="scopes",
            action="extend",
            nargs="+",
            required=True,
            choices=sorted(tokens.SCOPES),
            metavar="SCOPE",
            help="; ".join(f"{scope}: {meaning}" for scope, meaning in tokens.SCOPES.items()),
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Create the token; a name that is taken or wrong is refused."""
        try:
            token, text = tokens.create(options["name"], options["scopes"], Actor.system("manage.py createtoken"))
        except tokens.TokenError as error:
            raise CommandError(str(error)) from None
        self.stderr.write(f"Token {token.name!r} with {', '.join(token.scopes)}. Keep it: it is not shown again.")
        self.stdout.write(text)
