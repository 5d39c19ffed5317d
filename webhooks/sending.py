"""One HTTP try of a delivery: what is sent, and what the answer means. No database."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime

from webhooks.catalog import Destination
from webhooks.masking import mask_answer, mask_headers
from webhooks.schedule import Answer
from webhooks.sealing import Content, Exchanged, Pairs
from webhooks.signingsecrets import key_of
from wsmon.http import Client, HttpError, Response
from wsmon.redact import redact
from wsmon.vocabulary import Category

ANSWER_BYTES = 16_384
"""Of an answer's body so much is read and kept; what comes after it is not waited for."""
HOP_BY_HOP = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "host",
        "expect",
    ]
)
"""RFC 9110, 7.6.1, and what every request has of its own."""
_SAYING = ("error", "message", "detail", "title", "errors")
"""Under which names APIs say what is wrong (``detail`` and ``title``: RFC 9457)."""
REPLAY_HEADER = "Webhook-Replay"
NOT_FORWARDED = HOP_BY_HOP | frozenset(
    [
        REPLAY_HEADER.lower(),
        "cookie",
        "authorization",
        "accept-encoding",
        "forwarded",
        "x-real-ip",
        "via",
        "true-client-ip",
        "cf-connecting-ip",
    ]
)
"""Headers that are about the way to wsmon, that were meant for it alone, or that only wsmon may say."""
_WORDS = re.compile(r"[0-9a-f]{8,}|[0-9]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What is to be sent: which event, to whom, and whether it is a replay."""

    event_id: uuid.UUID
    destination: Destination
    content: Content = field(repr=False)
    signed_headers: tuple[str, ...] = ()
    """Lower-case names of the headers with the vendor's signature."""
    partial: bool = False
    """The body is a part of what the vendor signed, so that its signature would not fit."""
    replay_id: uuid.UUID | None = None


def headers_of(outgoing: Outgoing, now: float) -> dict[str, str]:
    """The headers of a try: the vendor's own, the destination's, and ours. ``now``: unix seconds.

    Signed with every secret of the destination (https://www.standardwebhooks.com, "Signature scheme"), so
    that receivers can change to a new one at their own time.
    """
    found: dict[str, str] = {}
    for name, value in _vendors(outgoing):
        key = name.title()
        found[key] = f"{found[key]}, {value}" if key in found else value
    if outgoing.destination.secrets:
        for name in ("Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"):
            found.pop(name, None)
    message_id, seconds = str(outgoing.event_id), str(int(now))
    found.setdefault("Webhook-Id", message_id)
    if outgoing.destination.secrets:
        found["Webhook-Timestamp"] = seconds
        signed = f"{message_id}.{seconds}.".encode() + outgoing.content.body
        found["Webhook-Signature"] = " ".join(_signatures(outgoing.destination.secrets, signed))
    else:
        found.setdefault("Webhook-Timestamp", seconds)
    if outgoing.replay_id is not None:
        found[REPLAY_HEADER] = str(outgoing.replay_id)
    found.setdefault("Content-Type", "application/json")
    return found | {name.title(): value for name, value in outgoing.destination.headers.items()}


def _vendors(outgoing: Outgoing) -> Iterable[tuple[str, str]]:
    left_out = NOT_FORWARDED
    if outgoing.partial:
        left_out |= frozenset(outgoing.signed_headers)
    # RFC 9110, 7.6.1: what Connection names is about that connection too.
    named = [value for name, value in outgoing.content.headers if name.lower() == "connection"]
    left_out |= {name.strip().lower() for value in named for name in value.split(",")}
    for name, value in outgoing.content.headers:
        key = name.lower()
        wanted = outgoing.destination.forward_headers and key not in left_out and not key.startswith("x-forwarded-")
        if wanted or key == "content-type":
            yield name, value


def _signatures(secrets: Sequence[str], signed: bytes) -> Iterable[str]:
    for secret in secrets:
        digest = hmac.new(key_of(secret), signed, hashlib.sha256).digest()
        yield "v1," + base64.b64encode(digest).decode()


def send(outgoing: Outgoing, http: Client) -> Answer:
    """Make one try; never raises for anything the other side does.

    Redirects are not followed, private addresses are refused where they are not allowed, the timeout holds
    over everything, and of the answer no more than 16 KB are read.
    """
    destination = outgoing.destination
    if destination.problem:
        return _answer_without(Category.CONFIGURATION_ERROR, destination.problem)
    headers = headers_of(outgoing, time.time())
    secrets = [*destination.secrets, *destination.headers.values()]
    sent = mask_headers(list(headers.items()))
    try:
        response = http.request(
            "POST",
            destination.url,
            headers=headers,
            body=outgoing.content.body,
            timeout=destination.timeout,
            max_bytes=ANSWER_BYTES,
            secrets=secrets,
        )
    except HttpError as error:
        category = error.category
        return Answer(
            category=category,
            message=error.message[:300],
            fingerprint=fingerprint(category, None, _blur(error.message)),
            timings=error.timings,
            exchanged=Exchanged(sent),
        )
    return _answer_of(response, sent, secrets)


def _answer_without(category: Category, message: str) -> Answer:
    return Answer(category=category, message=message[:300], fingerprint=fingerprint(category, None, message))


def _answer_of(response: Response, sent: Pairs, secrets: Sequence[str]) -> Answer:
    content_type = response.headers.get("content-type", "")
    # Some receivers send back what they were sent.
    text = redact(mask_answer(response.body, content_type).decode("utf-8", "replace"), secrets)
    category = None if response.ok else category_of(response.status)
    message = "" if response.ok else _summary(text)
    return Answer(
        http_status=response.status,
        category=category,
        message=message[:300],
        fingerprint="" if response.ok else fingerprint(category, response.status, _blur(text)),
        retry_after=_retry_after(response.headers),
        timings=response.timings,
        exchanged=Exchanged(sent, mask_headers(list(response.headers.items())), text.encode(), response.truncated),
    )


def category_of(status: int) -> Category:
    """The error category of an HTTP status that is no success."""
    if status in (401, 403):
        return Category.AUTHENTICATION_ERROR
    if status == 429:
        return Category.RATE_LIMITED
    if status == 408:
        return Category.TIMEOUT_ERROR
    if status >= 500:
        return Category.SERVER_ERROR
    return Category.CLIENT_ERROR


def fingerprint(category: Category | None, status: int | None, text: str) -> str:
    """Equal for answers that say the same, apart from numbers and ids in them: 16 hexadecimal digits."""
    plain = f"{category}|{status}|{text[:500]}"
    return hashlib.sha256(plain.encode("utf-8", "replace")).hexdigest()[:16]


def _blur(text: str) -> str:
    return _WORDS.sub("#", text)


def _summary(text: str) -> str:
    """One line of an answer for lists: what a JSON object says is wrong, else the first line there is."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        said = next((value[name] for name in _SAYING if value.get(name)), value)
        if isinstance(said, dict):
            said = next((said[name] for name in _SAYING if said.get(name)), said)
        text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return re.sub(r"[\x00-\x1f\x7f]+", " ", line)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After (RFC 9110, 10.2.3): a number, or a date."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", value):
        return float(value)
    try:
        moment: datetime = parsedate_to_datetime(value)
        return max(0.0, moment.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
