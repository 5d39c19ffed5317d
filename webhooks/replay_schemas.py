"""What ``/api/admin/webhooks/replay`` takes and answers. Part of the contract: names are never changed."""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from ninja import Schema
from pydantic import Field

from webhooks.api_schemas import EVENT_ID, TIME, Reason, example
from webhooks.replaying import AT_ONCE, FASTEST, MAX_RETRIES, PER_SECOND
from webhooks.vocabulary import DeliveryStatus, ReplayStatus
from wsmon.vocabulary import JSON

MaxRetries = Annotated[int, Field(ge=1, le=MAX_RETRIES, description="tries of each new delivery, at most")]
Force = Annotated[bool, Field(description="also what was delivered; never what is still under way")]
To = Annotated[str | None, Field(max_length=60, description="a destination, instead of theirs")]
DryRun = Annotated[bool, Field(description="answer what would go, and send nothing")]


class ReplayRequest(Schema):
    """How to send one event, or one delivery, again."""

    model_config = example({"force_retry": False, "max_retries": 3}, strict=True)
    force_retry: Force = False
    max_retries: MaxRetries = 3
    destination: To = None
    reason: Reason = ""
    dry_run: DryRun = False


class BulkReplayRequest(ReplayRequest):
    """Which to send again: ``ids``, or a filter of deliveries. A filter makes a job."""

    model_config = example(
        {"source": "stripe", "status": "failed", "since": "2h", "max_retries": 3, "per_second": 5}, strict=True
    )
    ids: list[int | uuid.UUID] | None = Field(
        None, min_length=1, max_length=AT_ONCE, description="ids of deliveries or events"
    )
    source: str = Field("", max_length=60)
    type: str = Field("", max_length=200, description="* stands for anything")
    status: str = Field("", max_length=20, description="of deliveries; empty: failed")
    from_destination: str = Field("", max_length=60, description="deliveries to this destination only")
    since: str = Field("", max_length=40, description="a time, or a duration ago", examples=["24h", TIME])
    until: str = Field("", max_length=40)
    q: str = Field("", max_length=300, description="as in the list of events")
    category: str = Field("", max_length=30, description="error category of the last try")
    fingerprint: str = Field("", max_length=16, description="of the answer to the last try")
    per_second: float = Field(PER_SECOND, gt=0, le=FASTEST, description="deliveries a second, at most")


_REPLAY: dict[str, JSON] = {
    "id": EVENT_ID,
    "job": EVENT_ID,
    "status": "running",
    "total": 120,
    "made": 10,
    "skipped": 2,
    "skips": {"delivered": 2},
    "progress": 0.1,
    "destination": None,
    "max_retries": 3,
    "force_retry": False,
    "per_second": 5,
    "reason": "the app was down",
    "created_by": "token:ops",
    "created_at": TIME,
    "finished_at": None,
}


class ReplayItem(Schema):
    """A replay of a list: a job, or what was sent again at once."""

    id: uuid.UUID = Field(description="stands in the header Webhook-Replay of what is sent")
    job: uuid.UUID = Field(description="the same: GET .../replay/{job} tells its progress")
    status: ReplayStatus = Field(description="done: all new deliveries are made; they may still be under way")
    total: int = Field(description="deliveries that were chosen")
    made: int = Field(description="new deliveries so far")
    skipped: int
    skips: dict[str, int] = Field(description="why, with numbers")
    progress: float = Field(description="0..1 of what was chosen has been gone through")
    destination: str | None = Field(description="instead of theirs")
    max_retries: int
    force_retry: bool
    per_second: float
    reason: str
    created_by: str
    created_at: datetime
    finished_at: datetime | None


class ReplayAnswer(ReplayItem):
    """A replay, and what became of the deliveries that it made."""

    model_config = example(_REPLAY | {"deliveries": {"delivered": 8, "pending": 2}, "delivery_ids": []})
    deliveries: dict[DeliveryStatus, int] = Field(description="new deliveries by status")
    delivery_ids: list[int] = Field(description="of the new deliveries, the first 100")


class ReplaysAnswer(Schema):
    """A page of replays, newest first. What became of the deliveries of one: ``GET .../replay/{job}``."""

    model_config = example({"replays": [_REPLAY], "next_cursor": None})
    replays: list[ReplayItem]
    next_cursor: str | None = Field(description="give it as `cursor` to get the next page; null: this is the last")


class PreviewAnswer(Schema):
    """What a replay would do."""

    model_config = example(
        {
            "dry_run": True,
            "total": 120,
            "would_go": 118,
            "skipped": {"delivered": 2},
            "looked_at": 120,
            "examples": [
                {
                    "event": EVENT_ID,
                    "delivery": "4711",
                    "type": "payment_intent.succeeded",
                    "destination": "app",
                }
            ],
        }
    )
    dry_run: Literal[True] = True
    total: int = Field(description="deliveries that match")
    would_go: int = Field(description="of those looked at")
    skipped: dict[str, int] = Field(description="of those looked at: why not, with numbers")
    looked_at: int = Field(description="at most 5,000")
    examples: list[dict[str, str]] = Field(description="some that would go: event, delivery, type, destination")


class ChangeRequest(Schema):
    """Why."""

    model_config = example({"reason": "the receiver is down"}, strict=True)
    reason: Reason = ""


class Verb(StrEnum):
    """What can be done to a job."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
