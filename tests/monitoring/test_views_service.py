"""The service page: what it says, to whom, and at which cost."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from monitoring.history import Point
from monitoring.models import Check, CheckState, Credential, MaintenanceWindow, Service, StateChange
from monitoring.views.params import Params
from monitoring.views.servicechart import bands, with_gaps
from monitoring.views.servicepage import detail_label, detail_value
from tests.browser.past import remember, slow_since
from tests.monitoring.factories import make_check, make_service

pytestmark = pytest.mark.django_db

FRAGMENTS = ["service-live", "service-results"]
NOW = datetime(2026, 10, 17, 12, tzinfo=UTC)


@pytest.fixture
def viewer() -> Client:
    return signed_in("viewer", "view_service")


@pytest.fixture
def operator() -> Client:
    return signed_in("operator", "view_service", "operate")


def signed_in(name: str, *codenames: str, is_staff: bool = True) -> Client:
    user = User.objects.create_user(name, password="right-horse", is_staff=is_staff)
    user.user_permissions.add(
        *Permission.objects.filter(codename__in=codenames, content_type__app_label="monitoring")
    )
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def show(client: Client, slug: str = "stripe", name: str = "service", **query: str) -> str:
    response = client.get(reverse(name, args=[slug]), query)
    assert response.status_code == 200, response.content[:300]
    return response.content.decode()


def text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def stripe(**state: Any) -> Check:
    check = make_check(make_service("stripe", "stripe", name="Stripe"), "connectivity", name="connectivity")
    CheckState.objects.filter(check_ref=check).update(**state)
    return check


# who may look --------------------------------------------------------------------------------------

EVERY = ["service", "service-series", *FRAGMENTS]


@pytest.mark.parametrize("name", EVERY)
def test_it_sends_strangers_to_the_login(client: Client, name: str) -> None:
    stripe()
    response = client.get(reverse(name, args=["stripe"]))
    assert (response.status_code, response["Location"][:13]) == (302, "/login/?next=")


@pytest.mark.parametrize("name", EVERY)
def test_it_refuses_staff_without_the_permission_to_view(name: str) -> None:
    stripe()
    assert signed_in("novice").get(reverse(name, args=["stripe"])).status_code == 403


@pytest.mark.parametrize("name", EVERY)
def test_it_refuses_accounts_that_are_not_staff(name: str) -> None:
    stripe()
    assert signed_in("eve", "view_service", is_staff=False).get(reverse(name, args=["stripe"])).status_code == 403


@pytest.mark.parametrize("name", EVERY)
def test_it_takes_no_post(viewer: Client, name: str) -> None:
    stripe()
    assert viewer.post(reverse(name, args=["stripe"])).status_code == 405


@pytest.mark.parametrize("name", EVERY)
def test_it_knows_no_service_that_does_not_exist_or_is_archived(viewer: Client, name: str) -> None:
    make_service("old", archived_at=timezone.now())
    assert viewer.get(reverse(name, args=["nowhere"])).status_code == 404
    assert viewer.get(reverse(name, args=["old"])).status_code == 404


@pytest.mark.parametrize("name", FRAGMENTS)
def test_its_fragments_are_no_pages(viewer: Client, name: str) -> None:
    stripe()
    assert "<html" not in show(viewer, name=name)


# what it says --------------------------------------------------------------------------------------


def test_the_head_says_what_is_wrong_since_when_and_what_to_do(viewer: Client) -> None:
    check = stripe(
        status="critical",
        outcome="critical",
        category="TIMEOUT_ERROR",
        message="timed out after 5 s",
        checked_at=timezone.now(),
    )
    since = timezone.now() - timedelta(minutes=14)
    Service.objects.filter(pk=check.service_id).update(
        status="critical", status_since=since, reason="connectivity: timed out after 5 s"
    )
    said = text(show(viewer))
    assert "connectivity: timed out after 5 s" in said
    assert "Critical 14 min , since" in said
    assert "It takes longer than the timeout." in said


def test_a_missing_variable_is_named_with_what_to_do(viewer: Client) -> None:
    check = stripe(status="not_configured", missing=["STRIPE_SECRET_KEY"])
    Service.objects.filter(pk=check.service_id).update(status="not_configured")
    said = text(show(viewer))
    assert "Not probed: STRIPE_SECRET_KEY is not set." in said
    assert "set STRIPE_SECRET_KEY where wsmon runs" in said


def test_a_credential_shows_its_name_and_source_but_never_its_value(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_live_do_not_show")
    stripe()
    page = show(viewer)
    assert 'STRIPE_SECRET_KEY <span class="ink3">from environment' in page
    assert "sk_live_do_not_show" not in page


def test_a_credential_of_the_service_says_that_it_is_stored_encrypted(viewer: Client) -> None:
    check = stripe()
    Credential.objects.create(service=check.service, variable="STRIPE_SECRET_KEY", encrypted=b"cipher")
    assert "STRIPE_SECRET_KEY stored, encrypted" in text(show(viewer))


def test_a_credential_by_reference_names_the_reference(viewer: Client) -> None:
    check = stripe()
    Credential.objects.create(service=check.service, variable="STRIPE_SECRET_KEY", reference="env:SHOP_KEY")
    assert "STRIPE_SECRET_KEY from env:SHOP_KEY" in text(show(viewer))


def test_a_pause_says_by_whom_until_when_and_why(viewer: Client) -> None:
    check = stripe()
    Check.objects.filter(pk=check.pk).update(
        paused_at=timezone.now(),
        paused_by="ada",
        paused_reason="moving",
        paused_until=timezone.now() + timedelta(hours=2),
    )
    Service.objects.filter(pk=check.service_id).update(status="paused")
    said = text(show(viewer))
    assert "Nothing is probed: paused by ada until" in said
    assert "“moving”" in said


def test_maintenance_in_force_is_said_and_listed(viewer: Client) -> None:
    check = stripe()
    now = timezone.now()
    MaintenanceWindow.objects.create(
        service=check.service, starts_at=now - timedelta(hours=1), ends_at=now + timedelta(hours=1), reason="big move"
    )
    said = text(show(viewer))
    assert "in maintenance: big move" in said
    assert "In force now." in said


def test_the_heartbeat_url_is_for_operators_only(viewer: Client, operator: Client) -> None:
    check = make_check(make_service("nightly", "heartbeat"), "heartbeat", name="backup")
    url = f"http://testserver/api/heartbeat/{check.heartbeat.token}"
    assert url in show(operator, "nightly")
    assert check.heartbeat.token not in show(viewer, "nightly")
    assert check.heartbeat.token not in show(viewer, "nightly", "service-live")


def test_viewers_see_no_buttons_that_act(viewer: Client, operator: Client) -> None:
    stripe()
    for words in ("Test connectivity", "Pause checks…", "Start maintenance…"):
        assert words in show(operator)
        assert words not in show(viewer)


def test_a_vendor_has_its_three_tests_and_a_generic_provider_one_for_each_check(operator: Client) -> None:
    stripe()
    site = make_service("site", "http")
    make_check(site, name="home")
    make_check(site, name="shop")
    assert re.findall(r'name="kind" value="(\w+)"', show(operator)) == [
        "connectivity", "authentication", "functionality",
    ]  # fmt: skip
    assert re.findall(r"Test (home|shop)<", show(operator, "site")) == ["home", "shop"]


def test_details_are_shown_once_in_words(viewer: Client) -> None:
    stripe(
        details={"livemode": True, "api_version": "2026-01", "domains": [{"name": "a.example", "status": "verified"}]}
    )
    said = text(show(viewer))
    for words in ("Live mode yes", "API 2026-01", "Domains a.example verified"):
        assert words in said


def test_what_vendors_send_is_escaped(viewer: Client) -> None:
    stripe(message="<script>alert(1)</script>", details={"account": "<img src=x>"}, checked_at=timezone.now())
    page = show(viewer)
    assert "<script>alert(1)" not in page
    assert "<img src=x>" not in page


def test_a_service_of_a_provider_that_is_gone_still_has_its_page(operator: Client) -> None:
    make_check(make_service("legacy", "gone_vendor"), "connectivity", name="connectivity")
    assert "gone_vendor" in show(operator, "legacy")


def test_no_style_attribute_and_no_inline_script_is_in_the_page(operator: Client) -> None:
    slow_since(stripe(), minutes=5, hours=1)
    page = show(operator)
    assert not re.search(r"<[^>]+\sstyle=", page)
    assert not re.search(r"<script(?![^>]*\ssrc=)[^>]*>", page)
    assert "<style" not in page


# the log -------------------------------------------------------------------------------------------


@pytest.fixture
def logged() -> Check:
    """Thirty results, a minute apart: every third one critical."""
    check = stripe()
    now = timezone.now()
    remember(check, [
        (now - timedelta(minutes=n), "critical" if n % 3 == 0 else "healthy", 100.0 + n, f"answer {n}")
        for n in range(30)
    ])  # fmt: skip
    return check


def test_the_log_shows_newest_first_and_pages_by_key(viewer: Client, logged: Check) -> None:
    first = show(viewer)
    older = re.search(r'id="older" href="([^"#]+)', first)
    assert older
    second = viewer.get(older[1].replace("&amp;", "&")).content.decode()
    shown = (
        {*re.findall(r"svc-msg\">[^<]*answer (\d+)<", first)},
        {*re.findall(r"svc-msg\">[^<]*answer (\d+)<", second)},
    )
    assert len(shown[0]) == 25
    assert shown[0] | shown[1] == {str(n) for n in range(30)}
    assert not shown[0] & shown[1]


def test_the_log_shows_what_was_not_healthy(viewer: Client, logged: Check) -> None:
    page = show(viewer, name="service-results", show="unhealthy")
    assert len(re.findall(r"TIMEOUT_ERROR: answer", page)) == 10
    assert "Not healthy 10" in text(page)


def test_the_log_filters_by_check_and_category(viewer: Client, logged: Check) -> None:
    other = make_check(logged.service, "authentication", name="authentication")
    remember(other, [(timezone.now(), "healthy", 50.0, "other answer")])
    assert "other answer" in show(viewer, name="service-results", check="authentication")
    assert ">answer 1<" not in show(viewer, name="service-results", check="authentication")
    assert "other answer" not in show(viewer, name="service-results", category="TIMEOUT_ERROR")


def test_the_log_shows_state_changes(viewer: Client, logged: Check) -> None:
    StateChange.objects.create(
        at=timezone.now(), service=logged.service, check_ref=logged, old="healthy", new="critical", reason="it broke"
    )
    assert "it broke" in show(viewer, name="service-results", show="changes")


def test_phases_that_did_not_happen_are_dashes(viewer: Client, logged: Check) -> None:
    assert "– · – · – · 97" in show(viewer)


def test_a_filter_that_fits_nothing_says_so_and_leads_back(viewer: Client, logged: Check) -> None:
    page = show(viewer, show="unhealthy", category="DNS_ERROR")
    assert "Nothing fits this filter" in page
    assert "Show all results" in page


@pytest.mark.parametrize("query", [
    {"before": "nonsense"}, {"before": "9" * 50}, {"before": "1-'; DROP"}, {"period": "1y"}, {"show": "secrets"},
    {"category": "NOPE"}, {"check": "unknown"}, {"chart": "unknown"}, {"before": "1", "show": "changes"},
])  # fmt: skip
def test_a_mangled_url_still_shows_the_page(viewer: Client, logged: Check, query: dict[str, str]) -> None:
    assert "Results" in show(viewer, **query)
    assert "Results" in show(viewer, name="service-results", **query)


def test_a_filter_puts_the_pages_own_url_into_the_address_bar_but_a_refresh_does_not(
    viewer: Client, logged: Check
) -> None:
    url = reverse("service-results", args=["stripe"])
    assert viewer.get(url, {"show": "unhealthy"})["HX-Push-Url"] == "/services/stripe/?show=unhealthy"
    assert "HX-Push-Url" not in viewer.get(url, {"refresh": "1"})


# the chart -----------------------------------------------------------------------------------------


def test_the_series_has_the_numbers_the_limit_and_what_was_wrong(viewer: Client) -> None:
    check = stripe(status="degraded")
    Check.objects.filter(pk=check.pk).update(degraded_over=1.5)
    Service.objects.filter(pk=check.service_id).update(status="degraded")
    StateChange.objects.create(
        at=timezone.now() - timedelta(minutes=20), service=check.service, old="healthy", new="degraded"
    )
    slow_since(check, minutes=20, hours=1)
    data = viewer.get(reverse("service-series", args=["stripe"]), {"period": "1h"}).json()
    assert data["limit"] == 1500
    assert [band["status"] for band in data["bands"]] == ["degraded"]
    assert len(data["t"]) == len(data["p95"]) == len(data["count"]) > 50
    assert data["p50"][-2] > 1500 > data["p50"][2]


def test_the_series_of_one_check_leaves_the_others_out(viewer: Client) -> None:
    check = stripe()
    other = make_check(check.service, "authentication", name="authentication")
    remember(check, [(timezone.now(), "healthy", 100.0, "")])
    remember(other, [(timezone.now(), "healthy", 900.0, "")])
    data = viewer.get(reverse("service-series", args=["stripe"]), {"chart": "authentication"}).json()
    assert data["p50"] == [pytest.approx(900, rel=0.07)]
    assert data["count"] == [1]


def test_the_numbers_of_the_chart_are_in_the_page_too(viewer: Client) -> None:
    slow_since(stripe(), minutes=0, hours=1)
    assert "Numbers as a table" in show(viewer)
    assert re.search(r'class="r num">\d+</td><td class="r num">0</td>', show(viewer))


def test_a_gap_in_the_points_is_a_gap_in_the_lines() -> None:
    points = [Point(NOW + timedelta(minutes=m), 1.0, 2.0, 3.0, 5, 0) for m in (0, 1, 5)]
    rows = with_gaps(points, 60)
    assert [row[1] for row in rows] == [1.0, 1.0, None, 1.0]


def at(minutes: int) -> datetime:
    return NOW + timedelta(minutes=minutes)


@pytest.mark.parametrize(("changes", "status", "expected"), [
    ([], "healthy", []),
    ([], "critical", [(0, 60, "critical")]),
    ([(10, "healthy", "critical"), (20, "critical", "healthy")], "healthy", [(10, 20, "critical")]),
    ([(10, "degraded", "critical")], "critical", [(0, 10, "degraded"), (10, 60, "critical")]),
    ([(10, "critical", "paused"), (30, "paused", "unknown")], "unknown", [(0, 10, "critical")]),
])  # fmt: skip
def test_bands_are_the_stretches_that_were_not_healthy(
    changes: list[tuple[int, str, str]], status: str, expected: list[tuple[int, int, str]]
) -> None:
    found = bands([(at(m), old, new) for m, old, new in changes], NOW, at(60), status)
    assert found == [
        {"from": at(a).timestamp(), "to": at(b).timestamp(), "status": word} for a, b, word in expected
    ]  # fmt: skip


# parameters and words ------------------------------------------------------------------------------


def test_urls_leave_defaults_out_and_filters_start_at_the_newest_page() -> None:
    params = Params("stripe", period="7d", show="unhealthy", before="123-4")
    assert params.url(show="all") == "/services/stripe/?period=7d"
    assert params.url(period="24h") == "/services/stripe/?show=unhealthy&before=123-4"
    assert Params("stripe").url() == "/services/stripe/"


@pytest.mark.parametrize(("value", "words"), [
    (True, "yes"), (False, "no"), (12.5, "12.5"), (3.0, "3"), (["a", "b"], "a, b"),
    (list(range(12)), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, and 2 more"),
    ({"name": "x", "status": "ok"}, "x ok"), ("y" * 400, "y" * 300),
])  # fmt: skip
def test_details_read_like_words(value: Any, words: str) -> None:
    assert detail_value(value) == words


def test_detail_labels_read_like_words() -> None:
    assert [detail_label(key) for key in ("tls_days_left", "account_state")] == ["TLS days left", "Account state"]


# cost ----------------------------------------------------------------------------------------------


def test_the_page_costs_no_more_queries_with_more_checks_and_results(
    viewer: Client, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    service = make_service("stripe", "stripe")
    for kind in ("connectivity", "authentication", "functionality", "http", "tcp", "dns"):
        slow_since(make_check(service, kind, name=kind), minutes=10, hours=2)
    for name, limit in (("service", 39), ("service-live", 30), ("service-results", 18), ("service-series", 14)):
        with django_assert_max_num_queries(limit):
            show(viewer, name=name)
