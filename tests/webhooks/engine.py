"""Parts of the engine by themselves: events to be stored, catalogs, threads that begin at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db import connection
from django.utils import timezone

from tests.webhooks.factories import make_destination, make_route, make_source
from webhooks import catalog, claims, store
from webhooks.claims import Claim
from webhooks.models import Destination
from webhooks.sealing import Content
from webhooks.store import NewEvent
from webhooks.vocabulary import Lane

T = TypeVar("T")


def known(slug: str) -> catalog.Source:
    """A source as the engine sees it now."""
    found = catalog.refresh(force=True).source(slug)
    assert found is not None
    return found


def place(slug: str = "stripe", *destinations: Destination, **fields: Any) -> catalog.Source:
    """A source with a route of everything to each destination; ``fields`` are the routes'."""
    source = make_source(slug)
    for destination in destinations:
        make_route(source, destination, **fields)
    return known(slug)


def new_event(source: catalog.Source, number: int | str = 1, **fields: Any) -> NewEvent:
    """An event as it comes out of a believed request."""
    body = fields.pop("body", f'{{"id": "evt_{number}", "number": "{number}"}}'.encode())
    defaults: dict[str, Any] = {
        "source": source,
        "key": f"evt_{number}",
        "type": "payment_intent.succeeded",
        "received_at": timezone.now(),
        "content": Content([("content-type", "application/json"), ("stripe-signature", "t=1")], "https://x/in", body),
        "content_type": "application/json",
    }
    return NewEvent(**defaults | fields)


def stored(
    number: int = 1, destination: Destination | None = None, slug: str | None = None, **fields: Any
) -> Destination:
    """A destination with so many deliveries that wait for it; ``fields`` are the destination's."""
    one = destination or make_destination(**fields)
    source = place(slug or f"source-of-{one.slug}", one)
    store.save([new_event(source, each) for each in range(1, number + 1)])
    return one


def claim(
    lane: Lane = Lane.LIVE,
    limit: int = 100,
    leave_out: Sequence[int] = (),
    held: Mapping[int, int] | None = None,
) -> list[Claim]:
    """What the dispatch thread does, with ``limit`` threads; one destination gets half of them."""
    return claims.claim(lane, limit, leave_out, held)


def at_once(jobs: Sequence[Callable[[], T]], seconds: float = 60.0) -> list[T]:
    """Run each in a thread of its own, all from the same moment on; what they return, or the first error."""
    gate = threading.Barrier(len(jobs))
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            gate.wait(seconds)
            results[number] = jobs[number]()
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(jobs))]


def later(seconds: float) -> datetime:
    """A moment from now."""
    return timezone.now() + timedelta(seconds=seconds)
