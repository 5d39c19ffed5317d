"""What vendors say of themselves: read when due, told in their incidents, planned work as maintenance windows."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import responses
from django.utils import timezone

import providers
from monitoring import maintenance
from monitoring.actions import cancel_maintenance
from monitoring.incidents import vendorpages
from monitoring.models import Incident, MaintenanceWindow, Service, VendorStatus
from providers.status_page import Look
from tests.monitoring.factories import make_service
from tests.monitoring.incidents.makers import open_incident, vendor
from tests.servers import Server, answering
from wsmon.audit import Actor
from wsmon.models import AuditEntry

pytestmark = pytest.mark.django_db
STRIPE = "https://www.stripestatus.com/api/v2/summary.json"
NOW = timezone.now().replace(microsecond=0)


def summary(indicator: str = "none", api: str = "operational", **fields: Any) -> dict[str, Any]:
    return {
        "page": {"id": "d5zv7xbys5v3", "name": "Stripe"},
        "status": {"indicator": indicator, "description": "x"},
        "components": [{"name": "Stripe API", "status": api}],
        "incidents": [],
        "scheduled_maintenances": [],
    } | fields


def post(title: str = "API errors", status: str = "investigating", minutes: int = 5, **fields: Any) -> dict[str, Any]:
    at = (NOW - timedelta(minutes=minutes)).isoformat()
    link = "https://stspg.io/abc"
    return {
        "id": "inc1", "name": title, "status": status, "impact": "major", "started_at": at, "shortlink": link,
        "components": [{"name": "Stripe API"}],
    } | fields  # fmt: skip


def work(hours: float = 24, lasts: float = 2, key: str = "mnt1", **fields: Any) -> dict[str, Any]:
    start = NOW + timedelta(hours=hours)
    return {
        "id": key, "name": "Database upgrade", "status": "scheduled", "scheduled_for": start.isoformat(),
        "scheduled_until": (start + timedelta(hours=lasts)).isoformat(), "components": [{"name": "Stripe API"}],
    } | fields  # fmt: skip


def read(body: Any, now: datetime = NOW, status: int = 200, **more: Any) -> VendorStatus:
    """Let the page say something and read it, due or not."""
    VendorStatus.objects.update(read_at=None)
    with responses.RequestsMock() as mock:
        mock.get(STRIPE, body=body if isinstance(body, bytes) else json.dumps(body), status=status, **more)
        vendorpages.read_due(now)
    return VendorStatus.objects.get(provider="stripe")


class TestWhatIsDue:
    def slugs(self, now: datetime) -> list[str]:
        return [one.provider.slug for one in vendorpages.due(now)]

    def test_the_pages_of_vendors_in_use(self) -> None:
        vendor()
        vendor("mail", "resend")
        make_service("our-site", "http")
        make_service("gone", "no_such_provider")
        make_service("old", "github", archived_at=NOW)
        assert self.slugs(NOW) == ["resend", "stripe"]

    @pytest.mark.parametrize(
        ("trouble", "seconds", "due"),
        [(False, 290, False), (False, 296, True), (True, 50, False), (True, 56, True), (False, -4000, True)],
    )
    def test_each_five_minutes_and_each_minute_in_trouble(self, trouble: bool, seconds: int, due: bool) -> None:
        check = vendor()
        VendorStatus.objects.create(provider="stripe", read_at=NOW)
        if trouble:
            open_incident(check.service)
        assert self.slugs(NOW + timedelta(seconds=seconds)) == (["stripe"] if due else [])

    def test_the_address_can_be_overridden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        vendor()
        monkeypatch.setenv("STRIPE_STATUS_BASE", "http://127.0.0.1:9009/status/")
        from monitoring import variables  # noqa: PLC0415

        variables.forget()
        (one,) = vendorpages.due(NOW)
        assert one.page.url == "http://127.0.0.1:9009/status/api/v2/summary.json"
        assert one.page.components == providers.get("stripe").status_page.components  # type: ignore[union-attr]
        variables.forget()


class TestReading:
    def test_a_green_page(self) -> None:
        vendor()
        row = read(summary())
        assert (row.indicator, row.text, row.posts, row.problem) == ("none", "All systems operational", [], "")
        assert row.read_at == row.changed_at == NOW

    @pytest.mark.parametrize(
        ("api", "indicator", "text"),
        [
            ("degraded_performance", "minor", "Stripe API: degraded performance"),
            ("partial_outage", "major", "Stripe API: partial outage"),
            ("major_outage", "critical", "Stripe API: major outage"),
        ],
    )
    def test_trouble_of_what_we_use(self, api: str, indicator: str, text: str) -> None:
        vendor()
        row = read(summary("minor", api))
        assert (row.indicator, row.text) == (indicator, text)

    def test_trouble_of_what_we_do_not_use_is_none(self) -> None:
        vendor()
        elsewhere = post(components=[{"name": "Atlas"}])
        assert read(summary("major", incidents=[elsewhere])).indicator == "none"

    def test_an_open_post_is_kept_with_its_link(self) -> None:
        vendor()
        row = read(summary("major", incidents=[post()]))
        assert row.text == "API errors"
        (kept,) = row.posts
        assert (kept["id"], kept["status"], kept["url"]) == ("inc1", "investigating", "https://stspg.io/abc")

    def test_a_link_that_is_none_is_dropped(self) -> None:
        vendor()
        assert read(summary("major", incidents=[post(shortlink="javascript:alert(1)")])).posts[0]["url"] == ""

    @pytest.mark.parametrize(
        ("body", "status"),
        [(b"<html>", 200), (b"{}", 200), (b"", 500), (b"", 302), (summary(page={"id": "other"}), 200)],
    )
    def test_a_page_that_cannot_be_read_says_nothing_of_the_vendor(self, body: Any, status: int) -> None:
        incident = open_incident(vendor().service)
        read(summary("major", "major_outage"))
        row = read(body, status=status)
        assert row.problem
        assert row.indicator == "critical", "what was last known"
        incident.refresh_from_db()
        assert incident.entries.filter(kind="vendor").count() == 1

    def test_what_did_not_change_is_not_sent_again(self) -> None:
        vendor()
        read(summary(), headers={"ETag": '"v1"'})
        VendorStatus.objects.update(read_at=None)
        with responses.RequestsMock() as mock:
            mock.get(STRIPE, status=304, match=[responses.matchers.header_matcher({"If-None-Match": '"v1"'})])
            vendorpages.read_due(NOW + timedelta(minutes=6))
        row = VendorStatus.objects.get()
        assert (row.indicator, row.read_at, row.changed_at) == ("none", NOW + timedelta(minutes=6), NOW)

    def test_a_page_on_a_real_server(self, loopback_targets: None, monkeypatch: pytest.MonkeyPatch) -> None:
        vendor()
        with Server(answering(json.dumps(summary("minor", "degraded_performance")).encode())) as server:
            monkeypatch.setenv("STRIPE_STATUS_BASE", server.url(""))
            from monitoring import variables  # noqa: PLC0415

            variables.forget()
            assert vendorpages.read_due() == 1
            variables.forget()
        assert VendorStatus.objects.get().indicator == "minor"

    def test_one_page_that_breaks_stops_no_other(self, monkeypatch: pytest.MonkeyPatch) -> None:
        vendor()
        vendor("mail", "resend")

        def look(_http: Any, page: Any, *_more: Any) -> Look:
            if "stripe" in page.url:
                return Look(None, [], [], [])  # type: ignore[arg-type]
            raise RuntimeError("broken")

        monkeypatch.setattr("monitoring.incidents.vendorpages.status_page.look", look)
        vendorpages.read_due(NOW)
        assert {row.provider: bool(row.problem) for row in VendorStatus.objects.all()}["resend"] is True


class TestAdmitting:
    def test_it_takes_the_time_of_their_post(self) -> None:
        incident = open_incident(vendor().service, began_at=NOW - timedelta(minutes=41))
        read(summary())
        incident.refresh_from_db()
        assert incident.admitted_at is None
        read(summary("major", incidents=[post(minutes=5)]))
        incident.refresh_from_db()
        assert incident.admitted_at == NOW - timedelta(minutes=5)
        (entry,) = incident.entries.filter(kind="vendor")
        assert (entry.text, entry.detail) == ("The vendor says: API errors (investigating)", "https://stspg.io/abc")

    def test_a_post_of_long_before_is_about_something_else(self) -> None:
        incident = open_incident(vendor().service, began_at=NOW - timedelta(minutes=10))
        read(summary("minor", incidents=[post(minutes=600)]))
        incident.refresh_from_db()
        assert incident.admitted_at == NOW

    def test_a_component_without_a_post_admits_too(self) -> None:
        incident = open_incident(vendor().service)
        read(summary("major", "major_outage"))
        incident.refresh_from_db()
        assert incident.admitted_at == NOW
        assert incident.entries.get(kind="vendor").text == "The vendor admits it: Stripe API: major outage"

    def test_what_is_new_is_told_once(self) -> None:
        incident = open_incident(vendor().service)
        for body in (
            summary("major", incidents=[post()]),
            summary("major", incidents=[post()]),
            summary("major", incidents=[post(status="identified")]),
            summary(),
            summary(),
        ):
            read(body)
        assert list(incident.entries.filter(kind="vendor").order_by("id").values_list("text", flat=True)) == [
            "The vendor says: API errors (investigating)",
            "The vendor says: API errors (identified)",
            "The vendor says that it is over",
        ]

    def test_other_vendors_incidents_are_left_alone(self) -> None:
        vendor()
        other = open_incident(vendor("mail", "resend").service)
        with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
            mock.get(STRIPE, json=summary("major", "major_outage"))
            mock.get("https://resend-status.com/api/v2/summary.json", status=500)
            vendorpages.read_due(NOW)
        other.refresh_from_db()
        assert other.admitted_at is None
        assert Incident.objects.count() == 1


class TestAnnouncedWork:
    def windows(self) -> list[MaintenanceWindow]:
        return list(MaintenanceWindow.objects.order_by("id"))

    def test_it_becomes_a_window_of_each_of_its_services(self) -> None:
        vendor()
        make_service("stripe-connect", "stripe")
        make_service("our-site", "http")
        read(summary(scheduled_maintenances=[work()]))
        assert {window.service.slug for window in self.windows() if window.service} == {"stripe", "stripe-connect"}
        window = self.windows()[0]
        assert window.starts_at == NOW + timedelta(hours=24)
        assert window.ends_at == NOW + timedelta(hours=26)
        assert (window.created_by, window.reason) == ("vendor:stripe", "Database upgrade (announced by the vendor)")
        assert AuditEntry.objects.filter(action="maintenance.start", actor_name="vendor:stripe").count() == 2

    def test_reading_again_makes_no_other(self) -> None:
        vendor()
        for _ in range(3):
            read(summary(scheduled_maintenances=[work()]))
        assert len(self.windows()) == 1

    def test_it_moves_along(self) -> None:
        vendor()
        read(summary(scheduled_maintenances=[work(24)]))
        read(summary(scheduled_maintenances=[work(48)]))
        (window,) = self.windows()
        assert window.starts_at == NOW + timedelta(hours=48)

    def test_what_is_not_announced_any_more_is_cancelled(self) -> None:
        vendor()
        read(summary(scheduled_maintenances=[work()]))
        read(summary())
        (window,) = self.windows()
        assert window.cancelled_at is not None
        read(summary(scheduled_maintenances=[work()]))
        assert [one.cancelled_at is None for one in self.windows()] == [False, True], "announced anew"

    def test_what_a_person_cancelled_stays_so(self) -> None:
        vendor()
        read(summary(scheduled_maintenances=[work()]))
        cancel_maintenance(self.windows()[0], Actor.system("ops"))
        read(summary(scheduled_maintenances=[work(48)]))
        (window,) = self.windows()
        assert window.cancelled_at is not None
        assert window.starts_at == NOW + timedelta(hours=24)

    def test_while_the_page_cannot_be_read_it_holds(self) -> None:
        vendor()
        read(summary(scheduled_maintenances=[work(-1)]))
        read(b"<html>")
        (window,) = self.windows()
        assert maintenance.in_force([window], NOW)

    @pytest.mark.parametrize(
        "told",
        [
            work(24, 48),
            work(-10, 2),
            work(24 * 90),
            work(components=[{"name": "Atlas"}]),
            work(status="completed"),
            work(lasts=-1),
            work(scheduled_for="soon"),
            work(key=""),
        ],
        ids=["too-long", "over", "far", "of-others", "done", "backwards", "no-time", "no-id"],
    )
    def test_what_holds_no_alert(self, told: dict[str, Any]) -> None:
        vendor()
        read(summary(scheduled_maintenances=[told]))
        assert self.windows() == []

    def test_long_work_is_told_of_all_the_same(self) -> None:
        vendor()
        row = read(summary(scheduled_maintenances=[work(24, 48)]))
        assert [one["title"] for one in row.maintenance] == ["Database upgrade"]

    def test_a_new_service_of_the_vendor_gets_it_too(self) -> None:
        vendor()
        read(summary(scheduled_maintenances=[work()]))
        Service.objects.create(slug="second", provider="stripe")
        read(summary(scheduled_maintenances=[work()]))
        assert len(self.windows()) == 2


def test_times_are_read_as_they_come() -> None:
    from providers.status_formats import _moment  # noqa: PLC0415

    assert _moment("2026-10-17T12:00:00Z") == datetime(2026, 10, 17, 12, tzinfo=UTC)
    assert _moment("2026-10-17T12:00:00") == datetime(2026, 10, 17, 12, tzinfo=UTC)
    assert _moment(1_760_702_400) == _moment(1_760_702_400_000) == datetime(2025, 10, 17, 12, tzinfo=UTC)
    assert [_moment(value) for value in (None, "x", True, 1e30, "")] == [None] * 5
