"""The vendors' own status pages in the demo, read as wsmon reads them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import providers
from demo import news, vendors
from demo.script import NOBODY, Behaviour
from demo.vendors import Demo
from providers import status_page
from providers.status_formats import Word
from wsmon.http import Client


@pytest.fixture(scope="module")
def stage() -> Iterator[Demo]:
    running = vendors.start(script=NOBODY)
    yield running
    running.stop()


def read(stage: Demo, slug: str) -> status_page.Look:
    page = providers.get(slug).status_page_with(stage.environment())
    assert page is not None
    assert page.url.startswith(f"{stage.url}/news/{slug}/")
    found = status_page.look(Client(["127.0.0.0/8"]), page, 5)
    assert found is not None
    return found


@pytest.fixture
def admitted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "ADMITS_AFTER", 0.0)


@pytest.mark.parametrize("slug", news.PAGES)
def test_while_all_is_well_it_says_so(stage: Demo, slug: str) -> None:
    found = read(stage, slug)
    assert found.word is Word.OPERATIONAL
    assert not found.incidents


@pytest.mark.parametrize("slug", news.PAGES)
@pytest.mark.parametrize("how", news.TROUBLE)
@pytest.mark.usefixtures("admitted_at_once")
def test_a_vendor_admits_its_trouble(stage: Demo, slug: str, how: Behaviour) -> None:
    stage.set(news.PAGES[slug], how)
    found = read(stage, slug)
    assert found.word > Word.OPERATIONAL
    assert len(found.incidents) == 1
    assert found.incidents[0].at is not None
    stage.set(news.PAGES[slug], None)


@pytest.mark.usefixtures("admitted_at_once")
@pytest.mark.parametrize("how", [Behaviour.REFUSE, Behaviour.LIMIT, Behaviour.GARBAGE, Behaviour.WELL])
def test_what_it_does_not_see_it_does_not_admit(stage: Demo, how: Behaviour) -> None:
    stage.set("stripe", how)
    assert read(stage, "stripe").word is Word.OPERATIONAL
    stage.set("stripe", None)


def test_it_admits_nothing_at_first(stage: Demo) -> None:
    stage.set("stripe", Behaviour.FAIL)
    assert read(stage, "stripe").word is Word.OPERATIONAL
    stage.set("stripe", None)


def test_trouble_that_lasts_is_one_post_from_the_moment_it_was_admitted() -> None:
    first, later = news.page("stripe", Behaviour.FAIL, 20).body, news.page("stripe", Behaviour.FAIL, 20).body
    assert first["incidents"][0]["id"] == later["incidents"][0]["id"]
    assert news.page("stripe", Behaviour.FAIL, news.ADMITS_AFTER - 0.1).body["incidents"] == []


def test_every_provider_of_the_demo_has_its_page_at_the_stand_ins(stage: Demo) -> None:
    names = {providers.get(slug).status_base for slug in news.PAGES}
    assert names <= set(stage.environment())
    assert news.page("http", Behaviour.FAIL, 99).status == 200
