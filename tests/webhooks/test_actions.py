"""``webhooks.actions``: what people do to deliveries and destinations."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from tests.webhooks.factories import make_delivery, make_destination
from webhooks import actions
from webhooks.actions import Refused
from webhooks.filters import Filter
from webhooks.models import Delivery, DestinationState
from webhooks.vocabulary import DeliveryStatus
from wsmon.audit import Actor
from wsmon.models import AuditEntry

ANNA = Actor.system("anna")

pytestmark = pytest.mark.django_db


def status(delivery: Delivery) -> str:
    return Delivery.objects.get(id=delivery.id).status


class TestCancelling:
    """``cancel_deliveries``."""

    def test_what_waits_is_cancelled_and_the_rest_stays(self) -> None:
        rows = {word: make_delivery(status=word) for word in DeliveryStatus}
        assert actions.cancel_deliveries([row.id for row in rows.values()], ANNA, "obsolete") == 2
        assert status(rows[DeliveryStatus.PENDING]) == status(rows[DeliveryStatus.RETRYING]) == "cancelled"
        for word in (DeliveryStatus.DELIVERING, DeliveryStatus.DELIVERED, DeliveryStatus.FAILED):
            assert status(rows[word]) == word
        assert Delivery.objects.get(id=rows[DeliveryStatus.PENDING].id).finished_at is not None

    def test_it_leaves_an_audit_row(self) -> None:
        row = make_delivery()
        actions.cancel_deliveries([row.id], ANNA, "obsolete")
        entry = AuditEntry.objects.get(action="delivery.cancel")
        assert (entry.actor_name, entry.reason) == ("anna", "obsolete")
        assert entry.details == {"count": 1, "deliveries": [str(row.id)]}

    def test_nothing_to_cancel_leaves_none(self) -> None:
        assert actions.cancel_deliveries([make_delivery(status="failed").id, 10**9], ANNA) == 0
        assert not AuditEntry.objects.exists()

    def test_a_filter_cancels_all_it_finds_in_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(actions, "BATCH", 2)
        app = make_destination("app")
        rows = [make_delivery(destination=app) for _ in range(5)]
        other = make_delivery()
        assert actions.cancel_deliveries(Filter(destination="app"), ANNA) == 5
        assert {status(row) for row in rows} == {"cancelled"}
        assert status(other) == "pending"
        assert [entry.details["count"] for entry in AuditEntry.objects.order_by("id")] == [2, 2, 1]


class TestDestinations:
    """Pausing and disabling."""

    @pytest.mark.parametrize(
        ("do", "undo", "moment", "verbs"),
        [
            (actions.pause_destination, actions.resume_destination, "paused", ("pause", "resume")),
            (actions.disable_destination, actions.enable_destination, "disabled", ("disable", "enable")),
        ],
    )
    def test_it_is_done_once_and_undone_once(self, do: Any, undo: Any, moment: str, verbs: Any) -> None:
        app = make_destination("app")
        assert not undo(app, ANNA)
        assert do(app, ANNA, " too slow ")
        assert not do(app, Actor.system("bert"), "me too")
        state = DestinationState.objects.get(destination=app)
        assert getattr(state, f"{moment}_at") is not None
        assert (getattr(state, f"{moment}_by"), getattr(state, f"{moment}_reason")) == ("anna", "too slow")
        assert undo(app, ANNA, "better")
        state.refresh_from_db()
        assert getattr(state, f"{moment}_at") is None
        assert (getattr(state, f"{moment}_by"), getattr(state, f"{moment}_reason")) == ("", "")
        rows = AuditEntry.objects.order_by("id").values_list("action", "target", "reason")
        assert list(rows) == [
            (f"destination.{verbs[0]}", "destination:app", "too slow"),
            (f"destination.{verbs[1]}", "destination:app", "better"),
        ]

    def test_its_backlog_stays(self) -> None:
        row = make_delivery()
        actions.pause_destination(row.destination, ANNA)
        actions.disable_destination(row.destination, ANNA)
        assert status(row) == "pending"

    def test_enabling_forgets_how_long_it_has_been_failing(self) -> None:
        app = make_destination()
        now = timezone.now()
        DestinationState.objects.update(disabled_at=now, failing_since=now, held_until=now)
        actions.enable_destination(app, ANNA)
        state = DestinationState.objects.get(destination=app)
        assert (state.failing_since, state.held_until) == (None, None)

    def test_an_archived_one_is_left_alone(self) -> None:
        app = make_destination(archived_at=timezone.now())
        with pytest.raises(Refused):
            actions.pause_destination(app, ANNA)
        with pytest.raises(Refused):
            actions.disable_destination(app, ANNA)
