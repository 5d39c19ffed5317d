"""The forecast on the service page: its line, its sentence, its record."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from monitoring.forecasts import wording
from monitoring.forecasts.reads import Record
from monitoring.models import Check
from monitoring.views.servicechart import clipped
from tests.browser.past import slow_since
from tests.monitoring.factories import make_check, make_service
from tests.monitoring.forecasts.test_reads import foretell

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


@pytest.fixture
def viewer() -> Client:
    client = Client()
    user = User.objects.create_superuser("viewer", password="right-horse")
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def check() -> Check:
    made = make_check(make_service("stripe", "stripe", name="Stripe"), "connectivity", name="connectivity")
    slow_since(made, minutes=0, hours=1)
    return made


def soon(check: Check, **fields: object) -> None:
    """A forecast that was made just now."""
    now = timezone.now()
    start = now.timestamp()
    line = [[start - 60, 290, 280, 300], [start + 7200, 800, 700, 900]]
    foretell(check, made_at=now, renewed_at=now, expected_at=now + 2 * HOUR, earliest=now + HOUR,
             latest=now + 3 * HOUR, crosses_at=now + 2 * HOUR, points=line, **fields)  # fmt: skip


def series(viewer: Client, **query: str) -> dict[str, list[float]]:
    found = viewer.get(reverse("service-series", args=["stripe"]), query).json()["forecast"]
    assert isinstance(found, dict)
    return found


def text(viewer: Client, name: str = "service", **query: str) -> str:
    html = viewer.get(reverse(name, args=["stripe"]), query).content.decode()
    return " ".join(re.sub(r"<[^>]*>", " ", html[html.index('id="svc-forecast"') - 5 :]).split())


def test_the_line_goes_on_from_now_for_a_third_of_the_period(viewer: Client, check: Check) -> None:
    soon(check)
    hour, day = series(viewer, period="1h"), series(viewer, period="24h")
    assert sorted(hour) == ["least", "most", "p95", "t"]
    assert hour["t"][-1] - hour["t"][0] == pytest.approx(1200, abs=1)
    assert day["t"][-1] - day["t"][0] == pytest.approx(7200, abs=10)
    assert day["p95"][-1] == 800
    assert 290 < day["p95"][0] < 300


def test_several_checks_together_have_no_line(viewer: Client, check: Check) -> None:
    make_check(check.service, "authentication", name="authentication")
    soon(check)
    assert series(viewer) == {}
    assert series(viewer, chart="authentication") == {}
    assert series(viewer, chart="connectivity")["p95"]


def test_the_page_says_what_is_expected_and_when(viewer: Client, check: Check) -> None:
    soon(check)
    said = text(viewer)
    assert re.search(
        r"p95 over 800 ms expected about \S+.*, between .+ and .+, if it goes on so. p95 of the response", said
    )
    make_check(check.service, "authentication", name="authentication")
    assert "connectivity: p95 over 800 ms expected" in text(viewer)
    assert "Show it in the chart" in text(viewer)
    assert "Show it in the chart" not in text(viewer, chart="connectivity")
    assert "expected" not in text(viewer, chart="authentication").split("Results")[0]


def test_an_open_page_follows(viewer: Client, check: Check) -> None:
    html = viewer.get(reverse("service-live", args=["stripe"])).content.decode()
    assert '<div id="svc-forecast" hx-swap-oob="true" hidden>' in html
    soon(check)
    assert "p95 over 800 ms" in text(viewer, "service-live")


def test_without_any_there_is_nothing_to_see(viewer: Client, check: Check) -> None:
    html = viewer.get(reverse("service", args=["stripe"])).content.decode()
    assert '<div id="svc-forecast" hidden>' in html
    assert series(viewer) == {}


def test_the_page_says_how_often_forecasts_were_right(viewer: Client, check: Check) -> None:
    foretell(check, outcome="wrong", settled_at=timezone.now())
    assert "Of 1 forecast in 90 days none came true; 1 wrong." in text(viewer)


@pytest.mark.parametrize(
    ("past", "words"),
    [
        (Record(), ""),
        (Record(1, 0, 0, timedelta(minutes=4)), "Of 1 forecast in 90 days 1 came true."),
        (
            Record(6, 1, 1, timedelta(minutes=12)),
            "Of 8 forecasts in 90 days 6 came true, half of them within 12 min of the time said; 1 averted, 1 wrong.",
        ),
        (
            Record(2, 0, 0, timedelta(hours=3)),
            "Of 2 forecasts in 90 days 2 came true, half of them within 3 h of the time said.",
        ),
        (
            Record(2, 2, 0, timedelta(days=4)),
            "Of 4 forecasts in 90 days 2 came true, half of them within 4 days of the time said; 2 averted.",
        ),
    ],
)
def test_a_record_in_words(past: Record, words: str) -> None:
    assert wording.record(past) == words


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ([], []),
        ([[0, 1, 1, 1]], []),
        ([[0, 0, 0, 0], [5, 5, 5, 5]], []),
        ([[40, 0, 0, 0], [50, 5, 5, 5]], []),
        ([[0, 0, -20, 0], [40, 40, -20, 80]], [[10, 10, 0, 20], [30, 30, 0, 60]]),
        ([[0, 0, 0, 0], [20, 20, 20, 20], [25, 50, 50, 50]], [[10, 10, 10, 10], [20, 20, 20, 20], [25, 50, 50, 50]]),
    ],
    ids=["none", "a point", "over", "to come", "across", "inside"],
)
def test_a_line_is_cut_at_both_ends(line: list[list[float]], expected: list[list[float]]) -> None:
    assert clipped(line, 10, 30) == expected
