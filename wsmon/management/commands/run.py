"""`manage.py run`: the whole of wsmon in one process."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from wsmon.launcher import stack


class Command(BaseCommand):
    """Web server, worker, beat and the embedded PostgreSQL, until Ctrl-C or SIGTERM."""

    help = "Start wsmon: web server, worker and beat in one process, on WSMON_BIND."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Leave a part out, when other processes do it."""
        parser.add_argument("--no-worker", action="store_true", help="probe nothing in this process")
        parser.add_argument("--no-beat", action="store_true", help="send no ticks from this process")

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until a signal comes."""
        stack.serve(worker=not options["no_worker"], beat=not options["no_beat"])
