"""Alerts: one row while something lasts, whoever raises it, shown where people look."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from monitoring import alerts, fragments, housekeeping, metrics
from monitoring.models import Alert, Notification
from tests.monitoring.factories import make_service
from tests.monitoring.notifications.factories import make_channel
from tests.monitoring.test_views_service import signed_in
from wsmon import hub

KEY = "delivery-failures:app"


def make(key: str = KEY, severity: str = "warning", title: str = "12 deliveries failed", **more: Any) -> Alert:
    return alerts.raise_alert(key, more.pop("kind", "delivery-failures"), severity, title, **more)


@pytest.mark.django_db
class TestRaising:
    def test_the_first_time_opens_it(self) -> None:
        service = make_service("stripe")
        made = make(detail="503 since 9:00", url="/destinations/app/", service=service)
        assert (made.key, made.kind, made.severity, made.count) == (KEY, "delivery-failures", "warning", 1)
        assert (made.title, made.detail, made.url) == ("12 deliveries failed", "503 since 9:00", "/destinations/app/")
        assert made.service == service
        assert made.resolved_at is None
        assert made.opened_at == pytest.approx(timezone.now(), abs=timedelta(minutes=1))

    def test_again_it_is_the_same_one_in_the_newest_words(self) -> None:
        first = make()
        again = make(severity="critical", title="50 deliveries failed", detail="worse")
        assert again.id == first.id
        assert (again.count, again.severity, again.title, again.detail) == (
            2,
            "critical",
            "50 deliveries failed",
            "worse",
        )
        assert again.opened_at == first.opened_at
        assert again.last_at > first.last_at

    def test_many_at_once_are_what_they_would_be_one_by_one(self, django_assert_max_num_queries: Any) -> None:
        channel = make_channel()
        known = make("thing:0", inhibited_by="own-connectivity")
        news = [alerts.News(f"thing:{number}", "thing", "critical", f"Thing {number}") for number in range(200)]
        news.append(alerts.News("thing:1", "thing", "warning", "Thing 1 again"))
        news.append(alerts.News("thing:new", "thing", "critical", "token=abcdef123456", inhibited_by="because"))
        with django_assert_max_num_queries(12):
            found = {alert.key: alert for alert in alerts.raise_alerts(news)}
        assert len(found) == Alert.objects.count() == 201
        assert (found["thing:0"].id, found["thing:0"].count) == (known.id, 2)
        assert found["thing:0"].inhibited_by == "own-connectivity", "as it was"
        assert found["thing:1"].title == "Thing 1 again", "of one key the last word counts"
        assert (found["thing:new"].title, found["thing:new"].inhibited_by) == ("token=***", "because")
        told = set(Notification.objects.filter(channel=channel).values_list("alert__key", flat=True))
        assert told == set(found) - {"thing:0", "thing:new"}
        with django_assert_max_num_queries(12):
            assert alerts.resolve_all([*found, "never was"]) == 201
        assert alerts.open_alerts() == []
        assert Notification.objects.filter(kind="resolved").count() == 199

    def test_none_is_none(self, django_assert_num_queries: Any) -> None:
        with django_assert_num_queries(0):
            assert (alerts.raise_alerts([]), alerts.resolve_all([])) == ([], 0)

    def test_after_it_is_resolved_the_next_is_another(self) -> None:
        first = make()
        assert alerts.resolve(KEY)
        assert not alerts.resolve(KEY)
        second = make()
        assert (second.id != first.id, second.count) == (True, 1)
        first.refresh_from_db()
        assert first.resolved_at is not None
        assert alerts.open_alerts() == [second]

    def test_it_is_there_when_and_only_if_its_transaction_is(self) -> None:
        with transaction.atomic():
            make()
            transaction.set_rollback(True)
        assert not Alert.objects.exists()

    def test_secrets_are_masked_and_long_words_cut(self) -> None:
        made = make(title="Bearer abcdefghijkl\0", detail="whsec_abcdefgh1234 " + "x" * 5000)
        assert "abcdefghijkl" not in made.title
        assert "abcdefgh1234" not in made.detail
        assert len(made.detail) == 2000
        assert make("other", title="y" * 500).title == "y" * 200

    def test_long_keys_stay_keys_of_their_own(self) -> None:
        one, other = make("k" * 300 + "1"), make("k" * 300 + "2")
        assert one.id != other.id
        assert len(one.key) <= 200
        assert make("k" * 300 + "1").id == one.id
        assert alerts.resolve("k" * 300 + "1")

    def test_a_page_of_elsewhere_is_no_link(self) -> None:
        assert make(url="javascript:alert(1)").url == ""

    def test_an_unknown_severity_is_refused(self) -> None:
        with pytest.raises(ValueError, match="loud"):
            make(severity="loud")

    def test_the_most_urgent_come_first_and_kinds_can_be_chosen(self) -> None:
        info, old, new = make("a", "info"), make("b", "critical", kind="backlog"), make("c", "critical")
        warning = make("d")
        assert alerts.open_alerts() == [new, old, warning, info]
        assert alerts.open_alerts(["backlog"]) == [old]
        assert alerts.open_alerts([]) == []


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def together(self, *works: Callable[[], Any]) -> list[Any]:
        barrier, found = threading.Barrier(len(works)), [None] * len(works)

        def run(number: int) -> None:
            try:
                barrier.wait(10)
                found[number] = works[number]()
            finally:
                connection.close()

        threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        return found

    def test_two_who_raise_the_same_key_open_one(self) -> None:
        for _round in range(10):
            one, other = self.together(make, make)
            assert one.id == other.id
            assert {one.count, other.count} == {1, 2}
            assert alerts.resolve(KEY)

    def test_raising_and_resolving_leaves_at_most_one_open(self) -> None:
        for _round in range(10):
            make()
            made, resolved = self.together(make, lambda: alerts.resolve(KEY))
            assert resolved
            still = alerts.open_alerts()
            assert [one.count for one in still] in ([], [1])
            assert still in ([], [made])
            alerts.resolve(KEY)

    def test_of_two_who_resolve_it_one_does(self) -> None:
        make()
        assert sorted(self.together(*[lambda: alerts.resolve(KEY)] * 2)) == [False, True]

    def test_pages_are_told_when_it_is_committed(self) -> None:
        import psycopg  # noqa: PLC0415

        with psycopg.connect(**hub._connection_parameters()) as listener:
            listener.execute(f"LISTEN {hub.CHANNEL}")
            made = make()
            alerts.resolve(KEY)
            told = [notice.payload for notice in listener.notifies(timeout=0.5)]
        assert told == [f'["alert",{{"alerts":[{made.id}]}}]'] * 2


@pytest.mark.django_db
class TestShowing:
    def page(self) -> str:
        return str(signed_in("viewer", "view_service").get("/").content.decode())

    def test_without_any_there_is_no_panel(self) -> None:
        make_service("stripe")
        page = self.page()
        assert "Open alerts" not in page
        assert 'id="alerts"' in page
        assert fragments.regular()["alerts"].strip() == ""

    def test_the_overview_shows_them_each_with_its_page(self) -> None:
        make_service("stripe")
        make(title="<b>bold</b>", detail="503 & worse", url="/destinations/app/")
        make()
        make("other", "critical", "Nobody delivers")
        page = self.page()
        assert "Open alerts" in page
        assert '<span class="vh">critical: </span><b>Nobody delivers</b>' in page
        assert '<a class="b" href="/destinations/app/">&lt;b&gt;bold' not in page, "the newest words count"
        assert "2 times since" in page
        assert page.index("Nobody delivers") < page.index("12 deliveries failed")

    def test_words_are_escaped_and_linked(self) -> None:
        make(title="<b>bold</b>", detail="503 & worse", url="/destinations/app/")
        part = fragments.regular()["alerts"]
        assert '<a class="b" href="/destinations/app/">&lt;b&gt;bold&lt;/b&gt;</a>' in part
        assert "503 &amp; worse" in part

    def test_more_than_a_panel_holds_are_counted(self) -> None:
        for number in range(8):
            make(str(number))
        part = fragments.changed([])["alerts"]
        assert part.count("<li>") == fragments.ALERTS_SHOWN == 5
        assert "and 3 more" in part

    def test_prometheus_counts_those_that_are_open(self) -> None:
        make("a")
        make("b")
        make("c", "critical", kind="backlog")
        make("d", "critical", kind="backlog")
        alerts.resolve("d")
        found = {
            tuple(sample.labels.values()): sample.value
            for family in metrics.collect()
            for sample in family.samples
            if sample.name == "wsmon_alerts_open"
        }
        assert found == {("delivery-failures", "warning"): 2, ("backlog", "critical"): 1}


@pytest.mark.django_db
def test_housekeeping_drops_what_was_resolved_long_ago() -> None:
    long_ago = timezone.now() - timedelta(days=housekeeping.CHANGE_DAYS, minutes=1)
    for key in ("open", "old", "new"):
        make(key)
    alerts.resolve("old")
    alerts.resolve("new")
    Alert.objects.filter(key="old").update(resolved_at=long_ago)
    Alert.objects.filter(key="open").update(opened_at=long_ago, last_at=long_ago)
    assert housekeeping.drop_old_alerts() == 1
    assert set(Alert.objects.values_list("key", flat=True)) == {"open", "new"}
