"""The navigation: pages of every room, as the settings list them, with their numbers."""

from __future__ import annotations

import pytest
from django.conf import settings

from monitoring import nav

NUMBER = {"now": 0}


def number() -> int:
    """What a page of the tests counts."""
    NUMBER["now"] += 1
    return NUMBER["now"]


@pytest.fixture
def pages(settings: object) -> None:
    """A navigation of two pages."""
    settings.NAV = [  # type: ignore[attr-defined]
        {"name": "overview", "label": "Overview", "icon": "activity"},
        {"name": "breakers", "label": "Breakers", "icon": "bolt", "under": "breaker-", "tab": False,
         "count": "tests.monitoring.test_nav.number", "counted": "not closed"},
    ]  # fmt: skip
    NUMBER["now"] = 0


@pytest.mark.parametrize(
    ("here", "marked"), [("overview", [0]), ("breakers", [1]), ("breaker-act", [1]), ("changes", []), ("", [])]
)
def test_the_page_or_the_one_above_it_is_marked(pages: None, here: str, marked: list[int]) -> None:
    assert [place for place, item in enumerate(nav.items(here)) if item.current] == marked


def test_a_number_is_asked_for_once_and_only_where_one_looks(pages: None) -> None:
    plain, counted = nav.items()
    assert (plain.number, plain.counted, plain.tab) == (0, "", True)
    assert NUMBER["now"] == 0
    assert (counted.number, counted.number, counted.tab) == (1, 1, False)
    assert counted.href == "/breakers/"


def test_the_numbers_are_live_events(pages: None) -> None:
    assert nav.counts() == {
        "count-breakers": '<span class="ws-count" data-s="critical">1<span class="vh"> not closed</span></span>\n'
    }


@pytest.mark.django_db
def test_every_page_of_the_settings_exists_and_phones_have_room() -> None:
    found = nav.items()
    assert all(item.href.startswith("/") for item in found)
    assert all(item.number == 0 for item in found), "nothing is configured"
    assert sum(item.tab for item in found) <= 4
    assert len(found) == len(settings.NAV)
