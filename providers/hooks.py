"""Webhooks of a vendor: what a :class:`Scheme` is. Plain Python: no clock, no I/O, no Django.

A vendor's scheme verifies a request over its raw bytes, answers the vendor's handshakes, and says what
events a request holds. ``webhooks.inbound`` asks it, in this order: :attr:`Scheme.greet` (handshakes that
come unsigned), :attr:`Scheme.verify`, :attr:`Scheme.answer` (signed handshakes), :attr:`Scheme.read`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from wsmon.http import Client, Headers
from wsmon.vocabulary import JSON

TOLERANCE = 300.0
"""Seconds that a signed time may lie in the past or the future (Stripe, Svix, Slack: 5 minutes)."""


class MessageStatus(StrEnum):
    """What became of one message, over all vendors. Later words outrank earlier ones, see :func:`outranks`."""

    QUEUED = "queued"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"


_RANK = {
    MessageStatus.QUEUED: 0,
    MessageStatus.SENT: 1,
    MessageStatus.FAILED: 2,
    MessageStatus.DELIVERED: 3,
    MessageStatus.READ: 4,
    MessageStatus.BOUNCED: 5,
    MessageStatus.COMPLAINED: 6,
    MessageStatus.UNSUBSCRIBED: 7,
}


def rank(status: MessageStatus) -> int:
    """Higher ones replace lower ones, see :func:`outranks`."""
    return _RANK[status]


def outranks(new: MessageStatus, old: MessageStatus | None) -> bool:
    """Whether ``new`` may replace ``old``: out-of-order and repeated events never move a status backwards.

    A bounce may follow a delivery (asynchronous bounces) and wins; neither a complaint nor an
    unsubscription is undone by a later delivery or opening.
    """
    return old is None or _RANK[new] > _RANK[old]


@dataclass(frozen=True, slots=True)
class Inbound:
    """One request, as it came.

    ``url`` is the whole URL as the vendor called it, query included: rebuilt from configured trust, never
    from a header. ``received_at`` is unix seconds.
    """

    method: str
    url: str
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    received_at: float


@dataclass(frozen=True, slots=True)
class Verified:
    """Why a request is believed. ``secret`` is the index of the secret that fitted; ``signed_at`` unix seconds."""

    scheme: str
    """For people: "Stripe-Signature v1, HMAC-SHA256"."""
    secret: int = 0
    signed_at: float | None = None


class Refused(Exception):
    """A request is not believed. ``code`` is one word for counting; the message is for people, holds no secret."""

    def __init__(self, code: str, message: str, status: int = 401) -> None:
        super().__init__(message)
        self.code = code
        """One of ``CODES``."""
        self.message = message
        self.status = status
        """The HTTP status to answer, 4xx."""


CODES = {
    "signature_missing": "no signature",
    "signature_malformed": "the signature cannot be read",
    "signature_mismatch": "the signature does not match",
    "too_old": "signed too long ago",
    "from_the_future": "signed in the future",
    "malformed": "the body is not what the vendor sends",
    "method": "not the vendor's method",
    "too_large": "larger than the source allows",
    "not_configured": "no secret is configured",
    "unknown_source": "there is no such source",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that a vendor expects before, or instead of, an event."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Found:
    """One event of a request.

    ``key`` is what the vendor repeats when it sends the event again (unique in its source). ``body`` is
    this event's own part of a batch; None: the whole request's bytes. ``subject`` is what it is about (a
    payment's, message's or channel's id).
    """

    key: str
    type: str
    occurred_at: datetime | None = None
    subject: str = ""
    status: MessageStatus | None = None
    body: bytes | None = field(default=None, repr=False)


class NoOptions(BaseModel):
    """The options of a scheme that takes none."""

    model_config = ConfigDict(extra="forbid")


Verify = Callable[[Inbound, Sequence[str], Any], Verified]
"""(request, the source's secrets as they are configured, options) -> why it is believed; raises :class:`Refused`."""
Read = Callable[[Inbound, Sequence[str], Any], list[Found]]
"""The same -> its events, in order; raises :class:`Refused` (``malformed``). Called only when verified."""
Answer = Callable[[Inbound, Sequence[str], Any], Reply | None]
"""The same -> the answer to a handshake, None when it is none; may raise :class:`Refused`."""


class Unlisted(Exception):
    """A vendor does not show its own list of events; the message is for people and holds no secret."""


def nothing_known(_key: str) -> bool:
    """The ``known`` of who has no event yet."""
    return False


class Missed(Protocol):
    """The vendor's own list of what it sent, to find what never arrived."""

    def __call__(
        self,
        http: Client,
        variables: Mapping[str, str],
        options: Any,
        since: datetime,
        timeout: float,
        /,
        known: Callable[[str], bool] = nothing_known,
    ) -> Iterator[tuple[Found, dict[str, str], bytes]]:
        """Yield each event since ``since`` with its headers (lower-case, without signatures) and body.

        Newest first, as vendors list them, each key once, asked for while one iterates. ``variables``
        and ``options`` are the provider's and the scheme's, resolved. ``timeout`` is each request's, in
        seconds. Events whose key is ``known`` are left out, without asking for their bodies.
        Raises :class:`Unlisted`, and ``providers.base.NotConfigured`` for absent variables.
        """


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a vendor's webhooks are signed, and what is in them."""

    verify: Verify
    read: Read
    greet: Answer | None = None
    """Handshakes that come unsigned (WhatsApp's GET, Microsoft Graph's validationToken)."""
    answer: Answer | None = None
    """Handshakes that are signed like events (Slack's url_verification)."""
    methods: tuple[str, ...] = ("POST",)
    options: type[BaseModel] = NoOptions
    secrets: tuple[str, ...] = ()
    """Variables that hold its secrets by default, e.g. ``STRIPE_WEBHOOK_SECRET``."""
    needs_secret: bool = True
    """False where a request can be believed without one (none of ours, but generic may be told so)."""
    signed_headers: tuple[str, ...] = ()
    """Lower-case names of the headers that carry the signature, kept with the event to verify it again.

    Never a header whose value is the secret itself (a token that is merely compared).
    """
    option_headers: Callable[[Any], tuple[str, ...]] = lambda _options: ()
    """The same, as far as a source's options name them; see :func:`signed_headers`."""
    signs_url: bool = False
    """The URL is part of what is signed: a source is no use without its configured public URL."""
    max_bytes: int = 1_048_576
    """Largest body by default."""
    batch: bool = False
    """One request may hold several events."""
    accepted: Reply | None = None
    """What to answer when all is stored, where the vendor wants anything but a 200 with JSON (Twilio: TwiML)."""
    hint: str = ""
    """What a person should know when entering the URL at the vendor, one sentence."""
    event_url: str = ""
    """Where the vendor shows an event, with ``{key}`` and ``{subject}``; empty: nowhere."""
    secret_problem: Callable[[str], str | None] = lambda _secret: None
    """What is wrong with a configured secret (never quoted), None: nothing."""
    missed: Missed | None = None
    """Reads the vendor's own list of events; None: it has none."""


def options_of(scheme: Scheme, values: Mapping[str, JSON]) -> Any:
    """The scheme's options from a source's plain values; raises pydantic's ValidationError."""
    return scheme.options.model_validate(dict(values))


def signed_headers(scheme: Scheme, options: Any) -> tuple[str, ...]:
    """Every header that carries a signature, lower-case, for a source with these options."""
    return (*scheme.signed_headers, *scheme.option_headers(options))
