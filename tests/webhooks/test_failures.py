"""Failures in groups: what they have in common, their numbers, who waits and who does not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from tests.webhooks.factories import make_delivery, make_destination, make_event, make_source
from tests.webhooks.story import tell
from webhooks import failures
from webhooks.failures import SLOTS, Group, look
from webhooks.models import Delivery, Refusal, Replay
from webhooks.vocabulary import FAILING, Lane, ReplayStatus

pytestmark = pytest.mark.django_db

DAY = timedelta(hours=24)


def groups(by: str, length: timedelta, least: int = 1) -> list[Group]:
    return look(by, length, least).groups


class TestGroups:
    def test_by_error_and_answer(self) -> None:
        told = tell()
        refused, down = groups("error", DAY)
        assert (refused.count, refused.failed, refused.waiting, refused.replayed) == (3, 3, 0, 0)
        assert (down.count, down.failed, down.waiting) == (3, 0, 3), "those never tried are no failures"
        assert refused.common["http_status"] == 422
        assert [row.id for row in refused.examples] == [row.id for row in reversed(told.failed)]
        assert refused.last_at == told.failed[0].tried_at
        assert refused.first_at == told.failed[2].tried_at
        assert (refused.source_names, refused.destination_names) == (["stripe"], ["ledger"])

    @pytest.mark.parametrize(
        ("by", "counts"),
        [("service", [6]), ("error_type", [3, 3]), ("destination", [3, 3]), ("response", [3, 3])],
    )
    def test_by_what_they_have_in_common(self, by: str, counts: list[int]) -> None:
        tell()
        assert [group.count for group in groups(by, DAY)] == counts

    def test_by_time_the_newest_hour_comes_first(self) -> None:
        tell()
        found = groups("time", DAY)
        assert found == sorted(found, key=lambda group: group.common["hour"], reverse=True)
        assert sum(group.count for group in found) == 6

    def test_a_group_finds_its_failed_deliveries(self) -> None:
        told = tell()
        since = timezone.now() - DAY
        for by in ("error", "response", "destination", "error_type"):
            group = next(group for group in groups(by, DAY) if group.failed)
            assert group.filter(since).deliveries().count() == 3, by
        hours = [group.filter(since).deliveries().count() for group in groups("time", DAY) if group.failed]
        assert hours == [1, 1, 1]
        other = make_delivery(make_event(told.stripe), told.ledger, "failed", fingerprint="c" * 16)
        group = next(group for group in groups("error", DAY) if group.failed == 3)
        assert other.id not in group.filter(since).deliveries().values_list("id", flat=True)

    def test_what_was_sent_again_waits_for_nobody(self) -> None:
        told = tell()
        make_delivery(told.failed[0].event, told.ledger, "delivered", lane=Lane.REPLAY)
        refused = groups("destination", DAY)[0]
        assert (refused.count, refused.failed, refused.replayed) == (3, 2, 1)

    def test_a_replay_that_fails_too_takes_the_place_of_what_it_repeats(self) -> None:
        told = tell()
        first = make_delivery(told.failed[0].event, told.ledger, "failed", lane=Lane.REPLAY)
        refused = groups("destination", DAY)[0]
        assert (refused.count, refused.failed, refused.replayed) == (4, 3, 1), "the replay itself waits for somebody"
        make_delivery(told.failed[0].event, told.ledger, "pending", lane=Lane.REPLAY)
        refused = groups("destination", DAY)[0]
        assert (refused.count, refused.failed, refused.replayed) == (4, 2, 2)
        assert first.id in refused.example_ids

    def test_one_sent_to_another_destination_still_waits(self) -> None:
        told = tell()
        make_delivery(told.failed[0].event, told.mailer, "delivered", lane=Lane.REPLAY)
        assert groups("destination", DAY)[0].replayed == 0

    def test_where_very_much_was_replayed_the_numbers_are_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told = tell()
        make_delivery(told.failed[0].event, told.ledger, "delivered", lane=Lane.REPLAY)
        make_delivery(told.failed[1].event, told.app, "delivered", lane=Lane.REPLAY)
        for few in (0, 1, 2, 3):
            monkeypatch.setattr(failures, "FEW_REPLAYS", few)
            refused = groups("error", DAY)[0]
            assert (refused.count, refused.failed, refused.replayed) == (3, 2, 1), few

    def test_only_last_tries_within_the_time_count(self) -> None:
        told = tell()
        Delivery.objects.filter(id=told.failed[0].id).update(tried_at=timezone.now() - timedelta(days=2))
        assert sum(group.failed for group in groups("error", DAY)) == 2
        assert sum(group.failed for group in groups("error", timedelta(days=7))) == 3

    def test_small_groups_can_be_left_out(self) -> None:
        told = tell()
        make_delivery(make_event(told.stripe), told.app, "failed")
        assert len(groups("error", DAY)) == 3
        assert len(groups("error", DAY, least=2)) == 2

    def test_the_trend_runs_from_old_to_new(self) -> None:
        tell()
        refused = groups("error", DAY)[0]
        assert len(refused.trend) == SLOTS
        assert sum(refused.trend) == 3
        assert refused.trend[0] == 0
        assert sum(refused.trend[-5:]) == 3

    def test_the_trends_numbers_are_those_of_each_part(self) -> None:
        source, to, now = make_source(), make_destination(), timezone.now()
        for hours, number in ((0.5, 3), (1.5, 2), (22.5, 1), (23.9, 4)):
            for _ in range(number):
                make_delivery(make_event(source), to, "failed", tried_at=now - timedelta(hours=hours))
        (group,) = groups("service", DAY)
        assert group.trend == [4, 1, *[0] * 20, 2, 3]
        assert sum(group.trend) == group.count == 10

    def test_one_tried_by_a_clock_that_is_ahead_is_in_the_last_part(self) -> None:
        make_delivery(status="failed", tried_at=timezone.now() + timedelta(minutes=5))
        (group,) = groups("service", DAY)
        assert group.trend == [*[0] * 23, 1]

    def test_nothing_failed(self) -> None:
        make_delivery(status="delivered")
        assert groups("error", DAY) == []

    def test_there_are_never_too_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        to = make_destination()
        for number in range(4):
            make_delivery(destination=to, status="failed", fingerprint=f"{number:016}")
        monkeypatch.setattr(failures, "MOST_GROUPS", 3)
        assert len(groups("response", DAY)) == 3

    def test_of_very_many_failures_the_newest_are_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told = tell()
        assert not failures.look("error", DAY).is_capped
        monkeypatch.setattr(failures, "COUNTED", 6)
        assert not failures.look("error", DAY).is_capped, "as many as there may be"
        for number in range(6):
            make_delivery(make_event(told.stripe), told.app, "failed", fingerprint=f"{number:016}")
        found = failures.look("error", DAY)
        assert found.is_capped
        newest = Delivery.objects.filter(status__in=FAILING).order_by("-tried_at").values_list("id", flat=True)[:7]
        assert sum(group.count for group in found.groups) == 7
        assert {number for group in found.groups for number in group.example_ids} <= {*newest}

    def test_those_without_an_answer_are_a_group_too(self) -> None:
        source, to = make_source(), make_destination()
        same = {"http_status": None, "category": "TIMEOUT_ERROR", "fingerprint": ""}
        for _ in range(2):
            make_delivery(make_event(source), to, "failed", **same)
        (group,) = groups("error", DAY)
        assert (group.count, group.common["http_status"], len(group.examples)) == (2, None, 2)

    def test_an_unknown_way_is_refused(self) -> None:
        with pytest.raises(KeyError):
            groups("moon", DAY)

    def test_it_takes_three_queries(self, django_assert_num_queries: DjangoAssertNumQueries) -> None:
        tell()
        with django_assert_num_queries(3):
            for group in groups("error", DAY):
                assert group.sample.subject
                assert group.sample.destination


class TestJobs:
    def test_they_say_how_far_they_are(self) -> None:
        told = tell()
        replay = Replay.objects.get()
        make_delivery(make_event(told.stripe), told.ledger, "delivered", replay=replay)
        (job,) = failures.jobs()
        assert (job.done, job.left, job.seconds_left, job.words_left) == (128, 72, 14.4, "14 s")
        assert job.by_status == {"delivered": 1}

    def test_one_that_rests_has_no_end_in_sight(self) -> None:
        tell()
        Replay.objects.update(status=ReplayStatus.PAUSED)
        (job,) = failures.jobs()
        assert (job.seconds_left, job.words_left) == (None, "")

    def test_single_replays_and_old_ones_are_left_out(self) -> None:
        Replay.objects.create(created_by="x", total=1, status=ReplayStatus.DONE, finished_at=timezone.now())
        Replay.objects.create(
            created_by="x", total=9, status=ReplayStatus.DONE, finished_at=timezone.now() - timedelta(days=2)
        )
        assert failures.jobs() == []
        Replay.objects.update(total=9, finished_at=timezone.now())
        assert len(failures.jobs()) == 2


def test_refused_requests_are_summed_by_source_reason_and_address() -> None:
    tell()
    now = timezone.now()
    Refusal.objects.create(
        at=now - timedelta(minutes=5), source="stripe", code="signature_mismatch", address="203.0.113.41", size=1,
        count=4, last_at=now,
    )  # fmt: skip
    long_ago = now - timedelta(hours=30)
    Refusal.objects.create(at=long_ago, source="stripe", code="too_old", size=1, count=99, last_at=long_ago)
    first, second = failures.refused()
    assert (first.source, first.code, first.address) == ("stripe", "signature_mismatch", "203.0.113.41")
    assert first.count == 22
    assert (second.source, second.count) == ("?", 2)
