"""What the engine's tests need: a vendor who posts, a receiver on a real socket, a running dispatcher."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.webhooks.receivers import Receiver
from webhooks import catalog
from webhooks.dispatcher import Dispatcher
from webhooks.ingest import Ingest


@pytest.fixture(autouse=True)
def forget_the_catalog() -> Iterator[None]:
    """Each test has its own configuration."""
    catalog.forget()
    yield
    catalog.forget()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that answers 200 and keeps what it was sent."""
    with Receiver() as one:
        yield one


@pytest.fixture
def running(transactional_db: None, loopback_targets: None) -> Iterator[Dispatcher]:
    """A dispatcher at work."""
    one = Dispatcher(8)
    one.start()
    yield one
    one.stop()


@pytest.fixture
def inlet(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ingest]:
    """The thread that stores what comes in, ended after the test."""
    one = Ingest()
    monkeypatch.setattr("webhooks.inbound.ingest", one)
    yield one
    one.stop()
