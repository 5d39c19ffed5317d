"""Where the demo's messages arrive, and the switches beside them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from demo import inbox, saturday, vendors
from demo.script import NOBODY, Behaviour, scene
from demo.vendors import Demo
from monitoring.models import CriticalOverride
from monitoring.notifications import bridge
from monitoring.notifications.messages import Message
from wsmon.net import Guard


@pytest.fixture
def stage() -> Iterator[Demo]:
    running = vendors.start(script=NOBODY)
    running.wsmon = "http://127.0.0.1:1/"
    yield running
    running.stop()


def send(stage: Demo, name: str = "chat", **said: Any) -> requests.Response:
    message = {"version": "1.0", "title": "Stripe fails", "message": "503", "type": "failure"} | said
    return requests.post(f"{stage.url}/inbox/{name}", json=message, timeout=5)


def page(stage: Demo) -> str:
    found = requests.get(f"{stage.url}/inbox/", timeout=5)
    assert found.headers["Content-Type"] == "text/html"
    return found.text


def test_a_message_of_apprise_arrives(stage: Demo) -> None:
    message = Message(
        "1", "opened", "critical", "Stripe fails", "503 to everything", "http://127.0.0.1:1/incidents/1/"
    )
    guard = Guard(["127.0.0.0/8"])
    bridge.send(stage.environment()["DEMO_CHAT_URL"], message, guard, 5)
    (letter,) = requests.get(f"{stage.url}/inbox.json", timeout=5).json()["messages"]
    assert (letter["to"], letter["title"], letter["kind"]) == ("chat", "Stripe fails", "failure")
    assert "503 to everything" in letter["text"]


def test_the_page_shows_the_newest_first_each_in_its_column(stage: Demo) -> None:
    send(stage, title="first")
    send(stage, title="second")
    send(stage, "phone", title="third")
    html = page(stage)
    assert html.index("second") < html.index("first") < html.index("third")
    assert "<h2>chat <small>2</small></h2>" in html
    assert 'href="http://127.0.0.1:1/"' in html


def test_what_a_message_says_is_no_markup_and_its_links_can_be_followed(stage: Demo) -> None:
    send(stage, title="<script>alert(1)</script>", message='see http://127.0.0.1:1/ack/secret/ & "more" <b>')
    html = page(stage)
    assert "<script>alert" not in html
    assert '<a href="http://127.0.0.1:1/ack/secret/">acknowledge</a>' in html
    assert '&amp; "more" &lt;b&gt;' in html


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"nonsense", b'{"title": "x", "message": "y"}'])
def test_what_is_no_message_is_refused(stage: Demo, body: bytes) -> None:
    assert requests.post(f"{stage.url}/inbox/chat", data=body, timeout=5).status_code == 422
    assert "Nothing so far" in page(stage)


def test_nobody_of_another_name_gets_anything(stage: Demo) -> None:
    assert send(stage, "boss").status_code == 404


def test_only_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    box = inbox.Inbox()
    for number in range(inbox.MOST + 5):
        box.take("chat", b'{"title": "%d", "message": "", "type": "info"}' % number)
    assert len(box.letters()) == inbox.MOST
    assert box.letters()[0].title == "5"


# switches


def test_a_vendor_is_switched_on_the_page(stage: Demo) -> None:
    form = {"vendor": "twilio", "behaviour": "fail"}
    said = requests.post(f"{stage.url}/control", data=form, timeout=5)
    assert said.history[0].status_code == 303
    assert said.url == f"{stage.url}/inbox/"
    assert stage.behaviour("twilio") is Behaviour.FAIL
    assert '<td class="fail">fail</td>' in said.text
    requests.post(f"{stage.url}/control", data=form | {"behaviour": ""}, timeout=5)
    assert stage.behaviour("twilio") is Behaviour.WELL


def test_how_long_it_lasts_is_counted_from_the_switch_or_from_its_scene(stage: Demo) -> None:
    stage.set("twilio", "fail")
    how, lasting = stage.lasting("twilio")
    assert how is Behaviour.FAIL
    assert 0 <= lasting < 5
    script = (("stripe", 10.0, 20.0, Behaviour.FAIL),)
    assert scene(script, "stripe", 17) == (Behaviour.FAIL, 7)
    assert scene(script, "stripe", 21) == (Behaviour.WELL, 0)


@pytest.mark.parametrize(
    ("wish", "switched"),
    [({"json": {"critical_day": True}}, True), ({"json": {"critical_day": None}}, None),
     ({"data": {"critical_day": "on"}}, True), ({"data": {"critical_day": "off"}}, False)],
)  # fmt: skip
def test_a_critical_day_is_switched(stage: Demo, wish: dict[str, Any], switched: bool | None) -> None:
    heard: list[bool | None] = []
    stage.switch_day = heard.append
    assert requests.post(f"{stage.url}/control", timeout=5, **wish).status_code == 200
    assert heard == [switched]


@pytest.mark.parametrize("day", ["maybe", 7, []])
def test_a_day_that_cannot_be_is_refused(stage: Demo, day: Any) -> None:
    heard: list[bool | None] = []
    stage.switch_day = heard.append
    assert requests.post(f"{stage.url}/control", json={"critical_day": day}, timeout=5).status_code == 422
    assert heard == []


def test_without_wsmon_there_is_no_calendar_to_switch(stage: Demo) -> None:
    assert requests.post(f"{stage.url}/control", json={"critical_day": True}, timeout=5).status_code == 422


@pytest.mark.django_db(transaction=True)
def test_the_switch_is_an_override_above_the_calendar() -> None:
    saturday.switch(True)
    assert list(CriticalOverride.objects.filter(ended_at=None).values_list("on", "by")) == [(True, "demo")]
    saturday.switch(False)
    assert list(CriticalOverride.objects.filter(ended_at=None).values_list("on", flat=True)) == [False]
    saturday.switch(None)
    assert not CriticalOverride.objects.filter(ended_at=None).exists()


@pytest.mark.django_db(transaction=True)
def test_at_the_start_it_is_tried_until_the_tables_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[bool] = []

    def switch(on: bool) -> None:
        tries.append(on)
        if len(tries) < 2:
            raise RuntimeError("no tables yet")

    monkeypatch.setattr(saturday, "switch", switch)
    saturday.switch_soon(True, threading.Event()).join(10)
    assert tries == [True, True]
    stopping = threading.Event()
    stopping.set()
    saturday.switch_soon(True, stopping).join(10)
    assert len(tries) == 2
