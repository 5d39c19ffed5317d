"""Svix."""

from __future__ import annotations

from tests.providers.test_standardwebhooks import StandardContract


class TestSvix(StandardContract):
    slug = "svix"
    prefix = "svix-"
    required = ("svix-id", "svix-timestamp", "svix-signature")

    def test_it_reads_the_message(self) -> None:
        (found,) = self.events()
        assert (found.key, found.type) == ("msg_1", "invoice.paid")
        assert self.scheme.secrets == ("SVIX_WEBHOOK_SECRET",)
