"""``manage.py erase SUBJECT --reason WHY [--dry-run]``: erase what mentions a person, and print the receipt."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from webhooks import erasing
from webhooks.mentions import BadSubject, Subject
from webhooks.replaymodels import Erasure
from wsmon.audit import Actor


class Command(BaseCommand):
    """The receipt goes to standard output as JSON, progress to standard error. Neither holds the subject."""

    help = "Erase all that mentions an e-mail address, a phone number or a customer's id."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the subject, the reason and the dry run."""
        parser.add_argument("subject", help="whose data; - reads it from standard input, so that no list shows it")
        parser.add_argument("--reason", default="", help="why, for the audit; required unless --dry-run")
        parser.add_argument("--dry-run", action="store_true", help="count what would go and change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Erase at once; killed in the middle, wsmon itself goes on with it."""
        text = sys.stdin.readline() if options["subject"] == "-" else options["subject"]
        try:
            subject = Subject(text)
        except BadSubject as error:
            raise CommandError(str(error)) from None
        if options["dry_run"]:
            self._receipt(erasing.dry_run(subject))
            return
        if not options["reason"].strip():
            raise CommandError("say why: --reason")
        erasure = erasing.start(subject, Actor.system("manage.py erase"), options["reason"])
        self.stderr.write(f"Erasure {erasure.id}")
        while erasure.status == "running":
            if not erasing.step(erasure.id):
                time.sleep(0.2)  # it is done, or another process is at it
            erasure = Erasure.objects.get(id=erasure.id)
        self._receipt(erasure)

    def _receipt(self, erasure: Erasure) -> None:
        self.stdout.write(json.dumps(erasing.receipt(erasure), indent=2, default=str))
