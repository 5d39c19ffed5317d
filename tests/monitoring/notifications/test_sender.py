"""The sender's threads: woken by NOTIFY, several at once, a database that goes away, an end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from django.db import transaction

from monitoring.models import Channel, Notification
from monitoring.notifications import claims, sender, sending, settling
from monitoring.notifications.sender import Sender
from tests import servers
from tests.monitoring.notifications.factories import Sink, make_channel, raised
from tests.servers import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def start() -> Iterator[Callable[[], Sender]]:
    """A maker of senders that are stopped in the end."""
    made: list[Sender] = []

    def make() -> Sender:
        made.append(Sender())
        made[-1].start()
        assert wait_until(lambda: made[-1].ears.listening, 10)
        return made[-1]

    yield make
    for one in made:
        one.stop()


def settled() -> bool:
    return not Notification.objects.filter(state__in=["pending", "sending"]).exists()


def test_what_is_committed_is_sent_at_once(sink: Sink, start: Callable[[], Sender]) -> None:
    make_channel(address=sink.address)
    start()
    with transaction.atomic():
        raised("a")
        assert not wait_until(lambda: bool(sink.requests), 0.3)
    assert wait_until(lambda: sink.titles == ["a is broken"] and settled(), 10)


def test_of_two_processes_one_sends_each_message(sink: Sink, start: Callable[[], Sender]) -> None:
    for number in range(3):
        make_channel(f"c{number}", sink.address)
    start()
    start()
    raised("a")
    raised("b")
    assert wait_until(lambda: len(sink.requests) == 6 and settled(), 10)
    assert not wait_until(lambda: len(sink.requests) > 6, 0.5)


def test_a_storm_of_several_processes_is_one_message_each_channel(sink: Sink, start: Callable[[], Sender]) -> None:
    make_channel(address=sink.address)
    with transaction.atomic():
        for number in range(200):
            raised(f"a{number}")
    start()
    start()
    assert wait_until(lambda: bool(sink.requests) and settled(), 15)
    assert sink.titles == ["200 alerts (200 critical)"]


def test_channels_that_hang_do_not_keep_others_waiting(sink: Sink, start: Callable[[], Sender]) -> None:
    with Sink(servers.silent) as hanging:
        for number in range(4):
            make_channel(f"hangs{number}", f"{hanging.address}?rto=60")
        start()
        for key in "abc":
            raised(key)
        assert wait_until(lambda: hanging.connections >= 4, 10)
        make_channel("fine", sink.address)
        raised("d")
        assert wait_until(lambda: sink.titles == ["d is broken"], 20)
    assert wait_until(lambda: Notification.objects.filter(channel__slug="fine", state="sent").exists(), 10)


def test_a_database_that_goes_away_is_waited_for(
    sink: Sink, start: Callable[[], Sender], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_channel(address=sink.address)
    running = start()
    genuine, failures = claims.claim, [OSError("gone"), ValueError("odd")]

    def claim(room: int) -> list[Notification]:
        if failures:
            raise failures.pop()
        return genuine(room)

    monkeypatch.setattr(claims, "claim", claim)
    raised("a")
    running.wake()
    assert wait_until(lambda: sink.titles == ["a is broken"] and settled(), 15)


def test_a_message_that_fails_inside_frees_its_thread(
    sink: Sink, start: Callable[[], Sender], monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, failures = sending.attempt, [OSError("gone"), ValueError("odd")]

    def attempt(claimed: Notification) -> object:
        if failures:
            raise failures.pop()
        return genuine(claimed)

    monkeypatch.setattr(sending, "attempt", attempt)
    make_channel(address=sink.address)
    running = start()
    for key in "abc":
        raised(key)
    assert wait_until(lambda: len(sink.requests) == 1, 10)
    assert wait_until(lambda: running.free == running.room, 10)


def test_what_a_dead_process_held_is_sent_again(
    sink: Sink, start: Callable[[], Sender], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "LEASE_SECONDS", 0.0)
    monkeypatch.setattr(settling.retries, "WAITS", (0.0,) * 6)
    make_channel(address=sink.address)
    raised("a")
    assert len(claims.claim(5)) == 1
    monkeypatch.setattr(claims, "LEASE_SECONDS", 30.0)
    start()
    assert wait_until(lambda: sink.titles == ["a is broken"] and settled(), 15)
    assert Channel.objects.get().failing_since is None


def test_a_tick_starts_one_and_stopping_ends_it() -> None:
    sender.tick()
    sender.tick()
    running = sender._sender
    assert running is not None
    sender.stop()
    sender.stop()
    assert sender._sender is None
    assert not running._look.is_alive()
    assert not [thread for thread in threading.enumerate() if thread.name == "notify-look"]
