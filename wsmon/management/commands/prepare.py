"""`manage.py prepare`: what must be done before the processes of a production set-up start."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from wsmon.launcher import first_start


class Command(BaseCommand):
    """Migrations, first admin, bootstrap token, wsmon.yaml: each only when it is needed."""

    help = "Migrate, create the first admin and the bootstrap token, apply WSMON_CONFIG. Safe to repeat."

    def handle(self, *args: Any, **options: Any) -> None:
        """Several hosts may do it at once: they take turns."""
        for line in first_start.prepare():
            self.stdout.write(line)
