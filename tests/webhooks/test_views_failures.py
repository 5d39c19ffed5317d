"""The page of failures as answers: its groups, what it advises, its jobs and refused requests."""

from __future__ import annotations

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from tests.webhooks.factories import make_delivery, make_event
from tests.webhooks.pages import ACT, HTMX, LIVE, READ, signed_in, text
from tests.webhooks.story import tell
from webhooks import failures as read
from webhooks.models import Replay
from webhooks.views import failures
from webhooks.vocabulary import Lane

pytestmark = pytest.mark.django_db

GROUPS = HTMX | {"HX-Target": "groups"}


@pytest.fixture
def viewer() -> Client:
    return signed_in("viewer", *READ)


@pytest.fixture
def operator() -> Client:
    return signed_in("operator", *ACT)


class TestThePage:
    def test_it_says_who_waits_for_whom(self, viewer: Client) -> None:
        tell()
        page = " ".join(text(viewer.get("/webhooks/failures/")).split())
        assert "3 deliveries used up their tries and wait for you." in page
        assert "4 more wait for app and go out by themselves." in page
        assert "1 more waits for mailer, which is paused." in page

    def test_groups_say_what_went_wrong_and_what_to_do(self, operator: Client) -> None:
        told = tell()
        page = text(operator.get("/webhooks/failures/"))
        assert "422 at ledger" in page
        assert "ledger does not accept the content: fix ledger, then replay." in page
        assert "unknown tax_rate, asked by [masked email]" in page
        assert "Replay all 3 to ledger…" in page
        assert "Replaying now would not help: its breaker is open." in page
        assert "Replay all 3 to app" not in page
        assert f"/webhooks/events/{told.failed[0].event_id}/#to-ledger" in page

    def test_replaying_a_group_is_one_address_that_stays_the_same(self, operator: Client) -> None:
        tell()
        page = text(operator.get("/webhooks/failures/"))
        query = (
            "all=1&amp;source=stripe&amp;status=failed&amp;destination=ledger&amp;category=CLIENT_ERROR"
            "&amp;fingerprint=bbbbbbbbbbbbbbbb&amp;tried_since=24h&amp;back=%2Fwebhooks%2Ffailures%2F"
        )
        assert query in page
        panel = text(operator.get(f"/webhooks/replay/?{query.replace('&amp;', '&')}", headers=HTMX))
        assert "Replay all 3 deliveries that match?" in panel

    def test_the_list_of_a_group_has_as_many(self, viewer: Client) -> None:
        tell()
        page = text(viewer.get("/webhooks/failures/"))
        for address, number in _lists(page):
            assert text(viewer.get(address)).count('<tr id="d-') == number, address

    @pytest.mark.parametrize(
        ("by", "words"),
        [
            ("error", "422 at ledger"),
            ("response", "422 at ledger"),
            ("destination", "at ledger"),
            ("service", "from stripe"),
            ("error_type", "CLIENT_ERROR"),
            ("time", "from stripe to ledger"),
            ("moon", "422 at ledger"),
        ],
    )
    def test_they_can_be_grouped_otherwise(self, operator: Client, by: str, words: str) -> None:
        tell()
        part = text(operator.get("/webhooks/failures/", {"by": by}, headers=GROUPS))
        assert "<html" not in part
        assert words in part

    def test_what_was_replayed_and_what_is_tried_again_is_told_apart(self, viewer: Client) -> None:
        told = tell()
        make_delivery(told.failed[0].event, told.ledger, "delivered", lane=Lane.REPLAY)
        make_delivery(make_event(told.stripe), told.ledger, "retrying", tries=1, tried_at=told.now)
        page = text(viewer.get("/webhooks/failures/?by=destination"))
        assert "1 more is tried again, 1 was replayed since." in page

    def test_the_smallest_group_and_the_period_can_be_chosen(self, viewer: Client) -> None:
        tell()
        assert "No group has 5 failures or more." in text(viewer.get("/webhooks/failures/?min=5"))
        assert "422 at ledger" not in text(viewer.get("/webhooks/failures/?period=1h"))
        assert "422 at ledger" in text(viewer.get("/webhooks/failures/?period=7d&min=x&by="))
        for odd in ("0", "-1", "²", "9" * 20):
            assert "422 at ledger" in text(viewer.get("/webhooks/failures/", {"min": odd}))

    def test_of_very_many_groups_the_largest_are_shown(self, viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(failures, "GROUPS_SHOWN", 1)
        tell()
        page = text(viewer.get("/webhooks/failures/"))
        assert page.count('class="wh-group"') == 1
        assert "The 1 largest groups." in page
        assert "largest groups" not in text(viewer.get("/webhooks/failures/?by=service"))

    def test_of_very_many_failures_it_says_how_many_are_counted(
        self, operator: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tell()
        page = text(operator.get("/webhooks/failures/"))
        assert "There are more than" not in page
        assert "Replay all 3 to ledger…" in page
        monkeypatch.setattr(read, "COUNTED", 5)
        for page in (
            text(operator.get("/webhooks/failures/")),
            text(operator.get("/webhooks/failures/", headers=LIVE)),
        ):
            assert "There are more than 5 failures in this time. The numbers below are of the newest 5" in page
            assert "Replay all to ledger…" in page, "how many there are is told before it is done"

    def test_what_others_wrote_is_escaped(self, operator: Client) -> None:
        told = tell()
        odd = '<b id="x">&'
        event = make_event(told.stripe, type=odd, subject=odd)
        make_delivery(event, told.ledger, "failed", message=odd, category=odd, fingerprint="e" * 16)
        for page in (
            text(operator.get("/webhooks/failures/")),
            text(operator.get("/webhooks/failures/", headers=LIVE)),
        ):
            assert "&lt;b id=&quot;x&quot;&gt;&amp;" in page
            assert "<b id=" not in page

    def test_nothing_failed(self, viewer: Client) -> None:
        assert "Nothing has come yet" in text(viewer.get("/webhooks/failures/"))
        told = tell()
        told.failed[0].destination.deliveries.all().delete()
        told.app.deliveries.all().delete()
        page = text(viewer.get("/webhooks/failures/"))
        assert "Nothing failed, last 24 h" in page
        assert "No delivery waits for you." in page

    def test_refused_requests_are_told_in_words(self, viewer: Client) -> None:
        tell()
        page = text(viewer.get("/webhooks/failures/"))
        assert "the signature does not match" in page
        assert "203.0.113.41" in page
        assert "there is no such source" in page

    def test_jobs_show_their_progress(self, operator: Client, viewer: Client) -> None:
        tell()
        page = text(operator.get("/webhooks/failures/"))
        assert "128 of 200 gone through, 120 sent, 8 skipped" in page
        assert 'aria-label="64 percent done"' in page
        assert "Cancel the remaining 72…" in page
        assert "Cancel the remaining" not in text(viewer.get("/webhooks/failures/"))
        Replay.objects.update(status="paused")
        assert "Resume replay…" in text(operator.get("/webhooks/failures/"))

    def test_the_live_script_gets_what_changes(self, viewer: Client) -> None:
        tell()
        part = text(viewer.get("/webhooks/failures/", headers=LIVE))
        assert "<html" not in part
        for name in ("fl-lead", "groups-list", "jobs-list", "refused"):
            assert f'id="{name}"' in part

    def test_the_number_of_queries_does_not_grow(
        self, operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        told = tell()
        for number in range(20):
            make_delivery(make_event(told.stripe), told.ledger, "failed", fingerprint=f"{number:016}")
        with django_assert_max_num_queries(35):
            text(operator.get("/webhooks/failures/"))
        with django_assert_max_num_queries(22):
            text(operator.get("/webhooks/failures/", headers=LIVE))


def _lists(page: str) -> list[tuple[str, int]]:
    """The addresses of the groups' lists, and how many they promise."""
    import re  # noqa: PLC0415

    found = re.findall(r'href="(/webhooks/\?[^"]*)">Show (\d+) deliver', page)
    return [(address.replace("&amp;", "&"), int(number)) for address, number in found]
