"""What ``/api/admin/webhooks`` takes and answers. Part of the contract: names are never changed.

Replays are in ``webhooks.replay_schemas``.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from ninja import Schema
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from monitoring.api_schemas import Timeframe
from webhooks.vocabulary import DeliveryStatus
from wsmon.vocabulary import JSON

TIME = "2026-11-21T09:30:00.120Z"
EVENT_ID = "019f4c1e-7c1a-7d3e-8f00-2b1c5d9e0a11"
_EVENT: JSON = {
    "id": EVENT_ID,
    "source": "stripe",
    "key": "evt_1Q2w3E",
    "type": "payment_intent.succeeded",
    "status": "failed",
    "received_at": TIME,
    "occurred_at": TIME,
    "subject": "pi_3Abc",
    "message_status": None,
    "size": 1843,
    "duplicates": 0,
    "deliveries": {"failed": 1, "delivered": 1},
}


def example(value: JSON, *, strict: bool = False) -> ConfigDict:
    """A model's example in the OpenAPI document; ``strict`` ones take no other fields."""
    extra: dict[str, Any] = {"examples": [value]}
    return ConfigDict(extra="forbid", json_schema_extra=extra) if strict else ConfigDict(json_schema_extra=extra)


class GroupBy(StrEnum):
    """What failures are grouped by."""

    SERVICE = "service"
    ERROR_TYPE = "error_type"
    TIME = "time"
    DESTINATION = "destination"
    FINGERPRINT = "fingerprint"


EventStatus = Literal["failed", "retrying", "delivering", "pending", "cancelled", "delivered", "unrouted"]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)]


# What stands in an answer by the dozen is plain pydantic: a Schema of ninja's fetches each field of each by a getter
# in Python, which takes longer than to read them from the database.

# Health and failures -------------------------------------------------------------------------------


class SourceHealth(BaseModel):
    """How what came from one source was delivered, over the timeframe."""

    total: int = Field(description="deliveries that ended, or failed so far and are tried again")
    successful: int = Field(description="of them, those that were delivered")
    failed: int = Field(description="of them, those whose tries are used up")
    retrying: int = Field(description="of them, those that failed so far and are tried again")
    success_rate: float | None = Field(description="successful / total, 0..1; null without any", examples=[0.9991])
    avg_response_time: float | None = Field(description="mean of all tries, in milliseconds")
    p95_response_time: float | None = Field(description="95% of the tries took no longer, in milliseconds")
    tries: int
    tries_failed: int


class HealthAnswer(Schema):
    """How deliveries went, over a timeframe. Rates are 0..1."""

    model_config = example(
        {
            "overall_success_rate": 0.998,
            "total_deliveries": 1000,
            "failed_deliveries": 1,
            "services": {
                "stripe": {
                    "total": 1000,
                    "successful": 998,
                    "failed": 1,
                    "retrying": 1,
                    "success_rate": 0.998,
                    "avg_response_time": 41.3,
                    "p95_response_time": 120.9,
                    "tries": 1004,
                    "tries_failed": 6,
                }
            },
            "timeframe": "24h",
            "last_updated": TIME,
        }
    )
    overall_success_rate: float | None = Field(description="over all that is listed, 0..1; null without any")
    total_deliveries: int
    failed_deliveries: int = Field(description="those whose tries are used up")
    services: dict[str, SourceHealth] = Field(description="by source")
    timeframe: Timeframe
    last_updated: datetime | None = Field(description="the latest try of anything listed; null before the first")


class FailureExample(BaseModel):
    """One failed delivery of a group."""

    delivery: int
    event: uuid.UUID
    type: str
    destination: str
    message: str = Field(description="what its last try found")
    tried_at: datetime | None


class FailureGroup(BaseModel):
    """Failures that have something in common: deliveries that failed, or failed so far and are tried again."""

    key: str = Field(description="what they have in common, e.g. a source, an error category, an hour")
    count: int
    waiting: int = Field(description="of them, those that are tried again by themselves")
    replayed: int = Field(description="of them, those that were sent again since")
    first_seen: datetime
    last_seen: datetime
    sources: list[str]
    destinations: list[str]
    examples: list[FailureExample] = Field(description="the newest")
    trend: list[int] = Field(description="failures in each 24th of the timeframe, oldest first")


class FailuresAnswer(Schema):
    """Failures in groups, the largest first; by time the newest first. At most 100 groups."""

    model_config = example(
        {
            "group_by": "error_type",
            "timeframe": "24h",
            "total_failures": 3,
            "truncated": False,
            "groups": [
                {
                    "key": "SERVER_ERROR",
                    "count": 3,
                    "waiting": 1,
                    "replayed": 0,
                    "first_seen": TIME,
                    "last_seen": TIME,
                    "sources": ["stripe"],
                    "destinations": ["app"],
                    "examples": [
                        {
                            "delivery": 4711,
                            "event": EVENT_ID,
                            "type": "payment_intent.succeeded",
                            "destination": "app",
                            "message": "answered 500",
                            "tried_at": TIME,
                        }
                    ],
                    "trend": [*[0] * 22, 1, 2],
                }
            ],
        }
    )
    group_by: GroupBy
    timeframe: Timeframe
    total_failures: int = Field(description="in the groups listed")
    truncated: bool = Field(description="there were more than 5,000 failures: the groups are of the newest of them")
    groups: list[FailureGroup]


class RefusalItem(Schema):
    """Requests that were refused, of one kind in one minute."""

    source: str = Field(description='as in the URL; "?" for names that no source has')
    code: str = Field(description="why, in one word", examples=["signature_mismatch"])
    message: str
    address: str | None
    count: int
    size: int = Field(description="bytes of the last one")
    sha256: str | None = Field(description="of the last one's body")
    first_at: datetime = Field(description="the minute")
    last_at: datetime


class RefusalsAnswer(Schema):
    """Requests that were refused lately, newest first."""

    model_config = example(
        {
            "refusals": [
                {
                    "source": "stripe",
                    "code": "signature_mismatch",
                    "message": "the signature does not match",
                    "address": "203.0.113.9",
                    "count": 17,
                    "size": 1843,
                    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                    "first_at": "2026-11-21T09:30:00Z",
                    "last_at": "2026-11-21T09:30:58Z",
                }
            ],
            "next_cursor": None,
        }
    )
    refusals: list[RefusalItem]
    next_cursor: str | None


# Events --------------------------------------------------------------------------------------------


class EventsQuery(Schema):
    """Which events; all conditions must hold."""

    source: str = Field("", description="a source's name", examples=["stripe"])
    type: str = Field("", description="`*` stands for anything", examples=["invoice.*"])
    status: str = Field("", description="as in the answer", examples=["failed"])
    destination: str = Field("", description="events that went to it")
    since: str = Field("", description="received since: a time, or a duration ago", examples=["24h"])
    until: str = Field("", description="received before")
    q: str = Field("", description='an id, words, "a whole value", `data.object.customer=cus_1`', examples=["cus_1"])
    cursor: str = Field("", max_length=100, description="`next_cursor` of the page before")
    limit: int = Field(50, ge=1, le=200, description="events of a page")


class EventBase(BaseModel):
    """One event, without its deliveries."""

    id: uuid.UUID
    source: str
    key: str = Field(description="the vendor's id of it")
    type: str
    status: EventStatus = Field(
        description="the worst of its deliveries (failed, retrying, delivering, pending, cancelled, delivered), "
        "counting the last one at each destination; unrouted when there is none"
    )
    received_at: datetime
    occurred_at: datetime | None
    subject: str = Field(description="what it is about, e.g. a payment's or message's id")
    message_status: str | None = Field(description="of messages: queued, sent, delivered, read, failed, bounced, ...")
    size: int = Field(description="bytes of the body")
    duplicates: int = Field(description="how often it came again")


class EventItem(EventBase):
    """One event of a list."""

    deliveries: dict[DeliveryStatus, int] = Field(description="number of deliveries by status")


class EventsAnswer(Schema):
    """A page of events, newest first."""

    model_config = example({"events": [_EVENT], "next_cursor": "AZ9MHnwafT6PACscXZ4KEQ"})
    events: list[EventItem]
    next_cursor: str | None = Field(description="give it as `cursor` to get the next page; null: this is the last")


class AttemptItem(Schema):
    """One HTTP try."""

    number: int
    at: datetime
    ok: bool
    trial: bool = Field(description="of an open breaker")
    http_status: int | None
    error_category: str | None
    message: str
    response_time: float | None = Field(description="milliseconds")
    timings: dict[str, float | None] = Field(description="dns, connect, tls, first_byte, total; milliseconds")
    request_headers: list[tuple[str, str]] | None = Field(description="as sent, masked; null: not kept any more")
    response_headers: list[tuple[str, str]] | None = Field(description="masked")
    response_body: str | None = Field(description="up to 16 KB, masked")
    truncated: bool = Field(description="whether the answer was longer")


class DeliveryItem(Schema):
    """One event at one destination."""

    id: int
    destination: str
    status: DeliveryStatus
    lane: Literal["live", "retry", "replay"]
    priority: Literal["critical", "high", "normal", "low"]
    created_at: datetime
    next_attempt_at: datetime | None = Field(description="null when it has ended, or is being sent")
    finished_at: datetime | None
    tries: int
    max_tries: int
    http_status: int | None = Field(description="of the last try")
    error_category: str | None
    message: str
    response_time: float | None = Field(description="of the last try, in milliseconds")
    replay: uuid.UUID | None = Field(description="the replay it belongs to")
    replay_of: int | None = Field(description="the delivery that it repeats")
    attempts: list[AttemptItem]


class EventDetail(EventBase):
    """An event with its payload, its deliveries and their attempts."""

    model_config = example(
        _EVENT
        | {
            "address": "[masked ip]",
            "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "verification": {"scheme": "Stripe-Signature v1, HMAC-SHA256", "age": 0.4},
            "headers": [["content-type", "application/json"]],
            "payload": '{"id": "evt_1Q2w3E", "data": {"email": "[masked email]"}}',
            "masked": ["data.email"],
            "truncated": False,
            "erased_at": None,
            "deliveries": [
                {
                    "id": 4711,
                    "destination": "app",
                    "status": "failed",
                    "lane": "live",
                    "priority": "critical",
                    "created_at": TIME,
                    "next_attempt_at": None,
                    "finished_at": TIME,
                    "tries": 9,
                    "max_tries": 9,
                    "http_status": 500,
                    "error_category": "SERVER_ERROR",
                    "message": "answered 500",
                    "response_time": 31.2,
                    "replay": None,
                    "replay_of": None,
                    "attempts": [],
                }
            ],
        }
    )
    address: str | None = Field(description="who sent it, masked")
    sha256: str = Field(description="of the body")
    verification: dict[str, Any] = Field(description="why it was believed")
    headers: list[tuple[str, str]] | None = Field(description="as received, masked; null: not kept any more")
    payload: str | None = Field(description="masked; null: erased, or older than payloads are kept")
    masked: list[str] = Field(description="where something was masked")
    truncated: bool
    erased_at: datetime | None
    deliveries: list[DeliveryItem] = Field(description="with their attempts, newest first; at most 200")


# Publishing ----------------------------------------------------------------------------------------


class PublishRequest(Schema):
    """One event of ours."""

    model_config = example(
        {"type": "order.paid", "data": {"id": "ord_17", "total": 4200}, "idempotency_key": "ord_17-paid"}, strict=True
    )
    type: str = Field(max_length=200, description="letters, digits, dots, dashes", examples=["order.paid"])
    data: Any = Field(description="any JSON, normally an object")
    idempotency_key: str | None = Field(
        None, max_length=255, description="or the header Idempotency-Key; kept for 24 hours"
    )
    priority: Literal["critical", "high", "normal", "low"] | None = Field(None, description="instead of the routes'")


class PublishAnswer(Schema):
    """The event that was stored."""

    model_config = example({"id": EVENT_ID, "created": True, "duplicate": False, "deliveries": 2})
    id: uuid.UUID
    created: bool
    duplicate: bool = Field(description="the key was known: this is the first event again")
    deliveries: int = Field(description="to so many destinations; 0: no route takes it")
