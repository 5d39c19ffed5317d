"""``manage.py apply FILE``: configuration as code."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from wsmon.config import ConfigError, apply_file


class Command(BaseCommand):
    """Make the database as wsmon.yaml says. Exit code 1 and no change at all when the file is bad."""

    help = "Apply a configuration file (wsmon.yaml): idempotent, all or nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        """FILE, --dry-run, --prune."""
        parser.add_argument("file", metavar="FILE", help="the configuration, usually wsmon.yaml")
        parser.add_argument("--dry-run", action="store_true", help="print what would change, change nothing")
        parser.add_argument("--prune", action="store_true", help="archive what is not in the file")

    def handle(self, *args: Any, **options: Any) -> None:
        """Apply, printing the plan."""
        try:
            apply_file(
                options["file"],
                dry_run=options["dry_run"],
                prune=options["prune"],
                out=self.stdout.write,
            )
        except ConfigError as error:
            for problem in error.problems:
                self.stderr.write(str(problem))
            count = len(error.problems)
            words = "1 problem" if count == 1 else f"{count} problems"
            raise CommandError(f"{options['file']} is refused, nothing was changed: {words}") from None
