"""What an action is about: one event, some deliveries, or all that a filter finds; as a URL or a form says it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from django.http import Http404, QueryDict
from django.urls import reverse

from webhooks import replaying
from webhooks.filters import BadFilter, Filter
from webhooks.models import Delivery, Destination, Event
from webhooks.reads import HEAVY
from webhooks.replaying import AT_ONCE, Preview
from webhooks.vocabulary import WAITING

COUNTED = 10_000
"""Before something is done to them, deliveries are counted up to this many: further than for a list."""


@dataclass(frozen=True)
class Chosen:
    """One of three; nothing at all when all are empty."""

    ids: Sequence[int] = ()
    event_id: uuid.UUID | None = None
    wanted: Filter | None = None

    @classmethod
    def of(cls, told: QueryDict) -> Chosen:
        """Read ``all=1`` with a filter, ``event=<id>``, or ``d=<id>`` any number of times.

        Raises :class:`Http404` for what no link of ours holds.
        """
        if told.get("all"):
            try:
                return cls(wanted=Filter.read({name: str(value) for name, value in told.items()}))
            except BadFilter as bad:
                raise Http404(str(bad)) from None
        numbers = [text for text in told.getlist("d") if text.isascii() and text.isdigit() and len(text) < 19]
        if numbers:
            return cls(ids=sorted({int(text) for text in numbers})[:AT_ONCE])
        try:
            return cls(event_id=uuid.UUID(str(told["event"]))) if told.get("event") else cls()
        except ValueError:
            raise Http404("no such event") from None

    def __bool__(self) -> bool:
        return bool(self.ids or self.event_id or self.wanted)

    @property
    def hidden(self) -> list[tuple[str, str]]:
        """The same as fields of a form."""
        if self.wanted is not None:
            return [("all", "1"), *sorted(self.wanted.params().items())]
        if self.event_id:
            return [("event", str(self.event_id))]
        return [("d", str(number)) for number in self.ids]

    @cached_property
    def delivery(self) -> Delivery | None:
        """The one delivery that is meant, if it is one."""
        if len(self.ids) != 1:
            return None
        rows = Delivery.objects.select_related("event", "destination__service", "destination__state", "source")
        return rows.defer(*HEAVY).filter(id=self.ids[0]).first()

    @cached_property
    def event(self) -> Event | None:
        """The one event that is meant, if it is one."""
        if self.event_id is None:
            return self.delivery.event if self.delivery else None
        return Event.objects.defer("sealed", "request").filter(id=self.event_id).first()

    @property
    def back(self) -> str:
        """The page that it belongs to."""
        return reverse("webhook-event", args=[self.event.id]) if self.event else reverse("webhooks")

    def preview(self, *, force: bool = False, destination: Destination | None = None) -> Preview:
        """What a replay would do; raises :class:`Http404` when nothing of it exists."""
        try:
            if self.wanted is not None:
                return replaying.preview(self.wanted, force=force, destination=destination)
            if self.event_id:
                return replaying.preview_event(self.event_id, force=force, destination=destination)
            return replaying.preview_deliveries(self.ids, force=force, destination=destination)
        except replaying.Unknown:
            raise Http404("no such event or delivery") from None
        except BadFilter as bad:
            raise Http404(str(bad)) from None

    @property
    def target(self) -> Filter | list[int]:
        """Its deliveries, as ``webhooks.actions`` takes them."""
        if self.wanted is not None:
            return self.wanted
        if self.event_id:
            return list(Delivery.objects.filter(event_id=self.event_id).values_list("id", flat=True)[:AT_ONCE])
        return list(self.ids)

    def waiting(self) -> int:
        """How many of its deliveries wait and can be cancelled, at most ``COUNTED``."""
        target = self.target
        rows = target.deliveries() if isinstance(target, Filter) else Delivery.objects.filter(id__in=target)
        return rows.filter(status__in=WAITING).order_by().values("pk")[:COUNTED].count()
