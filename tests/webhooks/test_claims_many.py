"""webhooks/claims.py with tens of thousands of deliveries that wait: what a claim looks at, and what it finds."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django.utils import timezone

from tests.monitoring.test_claims import rows_visited
from tests.webhooks.engine import at_once, claim, later
from tests.webhooks.factories import make_destination, make_event, make_source
from webhooks import claims
from webhooks.models import Delivery, Destination, DestinationState
from webhooks.vocabulary import Lane

# Real transactions: within one the time stands still for PostgreSQL's now().
pytestmark = pytest.mark.django_db(transaction=True)


def many(slug: str, number: int = 50_000, concurrency: int = 10) -> Destination:
    """A destination with so many deliveries that are due, of all priorities."""
    one = make_destination(slug, concurrency=concurrency)
    event = make_event(make_source("stripe"))
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO webhooks_delivery (event_id, destination_id, source_id, type, status, lane, priority,
                order_key, tries, max_tries, due_at, category, message, fingerprint)
            SELECT %s, %s, %s, 'a.b', 'pending', 0, n %% 4, '', 0, 9, now() - n * interval '1 second', '', '', ''
            FROM generate_series(1, %s) AS n
            """,
            [event.id, one.id, event.source_id, number],
        )
        cursor.execute("ANALYZE webhooks_delivery")
    return one


class TestManyRows:
    """With 50,000 deliveries around, a claim looks at what it takes."""

    @pytest.fixture
    def app(self) -> Destination:
        return many("app")

    def visited(self, lane: Lane = Lane.LIVE, limit: int = 50) -> float:
        """Rows that a claim looks at, whose own work is undone."""
        return visited_by(lambda: claims.claim(lane, limit))

    def test_when_they_all_wait(self, app: Destination):
        assert self.visited() < 2_000

    def test_when_the_destination_is_full(self, app: Destination):
        assert len(claim()) == 10
        assert self.visited() < 2_000

    def test_when_they_all_lie_in_the_future(self, app: Destination):
        Delivery.objects.update(due_at=later(3600), status="retrying")
        assert self.visited() < 2_000

    def test_when_they_are_all_done(self, app: Destination):
        Delivery.objects.update(status="delivered")
        assert self.visited() < 2_000

    def test_when_they_wait_in_another_lane(self, app: Destination):
        assert self.visited(Lane.REPLAY) < 2_000

    def test_when_they_wait_for_a_destination_that_is_paused(self, app: Destination):
        DestinationState.objects.filter(destination=app).update(paused_at=timezone.now())
        assert self.visited() < 2_000


def visited_by(work: Callable[[], object]) -> float:
    """Rows that the statements of ``work`` look at, which is done once, and undone."""
    seen: list[float] = []

    class Explained(psycopg.ClientCursor[Any]):
        """Explains each statement before it runs it."""

        def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            with transaction.atomic(), psycopg.ClientCursor(connection.connection) as cursor:
                cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + query, params)
                row = cursor.fetchone()
                assert row is not None
                seen.append(rows_visited(row[0][0]["Plan"]))
                transaction.set_rollback(True)
            return super().execute(query, params, **options)

    connection.ensure_connection()
    with pytest.MonkeyPatch.context() as patch, transaction.atomic():
        patch.setattr(claims.psycopg, "Cursor", Explained)
        work()
        transaction.set_rollback(True)
    return sum(seen)


class TestManyRowsInOrder:
    """With 50,000 deliveries that are sent one at a time per key, a claim looks at so many and no more."""

    MOST = 8_000

    @pytest.fixture
    def app(self) -> Destination:
        return many("app")

    @pytest.fixture(autouse=True)
    def _from_the_first_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(claims, "_after", {})

    def put(self, key: str, **fields: Any) -> None:
        """Give the ``id``-th delivery, from 0, a key, in SQL."""
        with connection.cursor() as cursor:
            first = Delivery.objects.order_by("id").values_list("id", flat=True)[0]
            cursor.execute(f"UPDATE webhooks_delivery SET order_key = ({key.format(id=f'(id - {first})')})::text")
            cursor.execute("ANALYZE webhooks_delivery")

    def looks_at_few(self, app: Destination) -> None:
        assert visited_by(lambda: claims.claim(Lane.LIVE, 32)) < self.MOST
        assert visited_by(lambda: claims.due_destinations([app.id])) < self.MOST
        assert visited_by(lambda: claims.claim_trial(app.id)) < 3 * self.MOST

    @pytest.mark.parametrize("number", [1, 3, 400, 5_000, 50_000])
    def test_whatever_the_number_of_keys_it_finds_all_that_may_go(self, app: Destination, number: int):
        self.put(f"{{id}} % {number}")
        self.looks_at_few(app)
        found = [one.id for one in claim()]
        assert len(found) == min(number, 10)
        rows = Delivery.objects.filter(id__in=found)
        firsts = {row.id: Delivery.objects.filter(order_key=row.order_key).order_by("id")[0].id for row in rows}
        assert firsts == {number: number for number in found}
        self.looks_at_few(app)

    def test_when_none_of_them_may_go(self, app: Destination):
        self.put("{id} % 3")
        firsts = list(Delivery.objects.order_by("id").values_list("id", flat=True)[:3])
        Delivery.objects.filter(id__in=firsts).update(status="retrying", due_at=later(3600))
        assert claim() == []
        assert claims.due_destinations([app.id]) == set()
        assert claims.claim_trial(app.id) is None
        self.looks_at_few(app)

    def test_those_without_a_key_are_found_among_them(self, app: Destination):
        self.put("'a'")
        newest = Delivery.objects.order_by("-id").values_list("id", flat=True)[0]
        Delivery.objects.filter(id=newest).update(order_key="", due_at=later(-0.001))
        first = Delivery.objects.order_by("id").values_list("id", flat=True)[0]
        assert {one.id for one in claim()} == {first, newest}
        self.looks_at_few(app)

    def test_behind_one_key_with_very_many_the_others_are_found_in_their_turn(self, app: Destination):
        """The first of `a` is tried again later; 3,000 more keys lie behind what waits for it."""
        self.put("CASE WHEN {id} < 47000 THEN 'a' ELSE 'b' || {id} END")
        Delivery.objects.filter(order_key="a").update(due_at=later(-9_999_999))
        first = Delivery.objects.order_by("id").values_list("id", flat=True)[0]
        Delivery.objects.filter(id=first).update(status="retrying", due_at=later(3600))
        # The only one that may go is under the very last key.
        Delivery.objects.exclude(order_key__in=["a", "b49999"]).update(due_at=later(3600))
        last = Delivery.objects.get(order_key="b49999").id
        self.looks_at_few(app)
        claims._after.clear()
        looks = 0
        while not (found := claim()):
            looks += 1
            assert looks <= 3_000 // claims.KEYS + 1
        assert [one.id for one in found] == [last]
        assert looks > 0


def test_at_very_many_keys_their_order_holds_over_several_claimers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(claims, "_after", {})
    app = many("app", 3_000, concurrency=64)
    Delivery.objects.filter(destination=app).update(due_at=later(-1))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE webhooks_delivery SET order_key = (id % 600)::text")
    order: dict[str, list[int]] = defaultdict(list)
    lock = threading.Lock()

    def work() -> None:
        while Delivery.objects.exclude(status="delivered").exists():
            found = claim(limit=64)
            rows = dict(Delivery.objects.filter(id__in=[one.id for one in found]).values_list("id", "order_key"))
            assert len(rows) == len(set(rows.values()))
            with lock:
                for one in found:
                    order[rows[one.id]].append(one.id)
            for one in found:
                Delivery.objects.filter(id=one.id).update(status="delivered", lease_token=None, lease_until=None)

    at_once([work] * 3)
    assert len(order) == 600
    assert all(ids == sorted(ids) and len(ids) == 5 for ids in order.values())
