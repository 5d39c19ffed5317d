"""``manage.py export``: the present configuration as a file that apply takes."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from wsmon.config import export_text


class Command(BaseCommand):
    """Print the configuration in the format of wsmon.yaml; applying it changes nothing."""

    help = "Print the present configuration as wsmon.yaml, secrets as references only."

    def handle(self, *args: Any, **options: Any) -> None:
        """Print it."""
        self.stdout.write(export_text(), ending="")
