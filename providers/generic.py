"""Webhooks of any sender that signs with an HMAC, or brings a shared secret: set up by options alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from providers import payloads, signing
from providers.base import Provider
from providers.expectations import check_path, find
from providers.hooks import TOLERANCE, Found, Inbound, Refused, Scheme, Verified
from providers.options import Options
from wsmon.vocabulary import JSON

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_HOLES = re.compile(r"\{(timestamp|body|id)\}")


def _check_header(name: str) -> str:
    if not _HEADER.fullmatch(name):
        raise ValueError("is not the name of a header such as X-Signature")
    return name.lower()


def _check_place(place: str) -> str:
    if not place.startswith("$"):
        return _check_header(place)
    check_path(place)
    return place


Header = Annotated[str, AfterValidator(_check_header)]
Place = Annotated[str, AfterValidator(_check_place)]
"""A header's name, or a path into a JSON body such as ``$.data.id``."""


class HookOptions(Options):
    """How the sender signs (or which token it brings), and where an event's id, type and time stand."""

    mode: Literal["hmac", "token"] = "hmac"
    """``token``: the header (or the URL's parameter) holds the secret itself."""
    header: Header = "x-signature"
    parameter: str | None = Field(default=None, min_length=1, max_length=100)
    """mode token: the URL's query parameter that holds it, for senders that cannot set a header."""
    prefix: str = Field(default="", max_length=50)
    """What stands before the signature or token, e.g. ``sha256=`` or ``"Bearer "``."""
    algorithm: Literal["sha256", "sha1", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    text: str | None = Field(default=None, max_length=200)
    """What is signed; by default ``{timestamp}.{body}``, or ``{body}`` alone without a timestamp header."""
    timestamp_header: Header | None = None
    tolerance: float = Field(default=TOLERANCE, gt=0, le=86_400)
    """Seconds that the timestamp may lie in the past or the future."""
    event_id: Place | None = None
    event_type: Place | None = None
    event_time: Place | None = None
    subject: Place | None = None

    @model_validator(mode="after")
    def _goes_together(self) -> HookOptions:
        holes = _HOLES.findall(self.signed_text)
        if self.mode == "token":
            if self.text is not None or self.timestamp_header:
                raise ValueError("text and timestamp_header belong to mode hmac")
            return self
        if self.parameter is not None:
            raise ValueError("parameter belongs to mode token")
        if holes.count("body") != 1:
            raise ValueError("text must hold {body}, once")
        if bool(self.timestamp_header) != ("timestamp" in holes):
            raise ValueError("timestamp_header and {timestamp} in text need each other, or the time is not signed")
        if "id" in holes and (not self.event_id or self.event_id.startswith("$")):
            raise ValueError("{id} in text needs event_id to be a header")
        return self

    @property
    def signed_text(self) -> str:
        """``text`` or its default."""
        return self.text or ("{timestamp}.{body}" if self.timestamp_header else "{body}")


def _options(options: Any) -> HookOptions:
    return options if isinstance(options, HookOptions) else HookOptions()


def verify(inbound: Inbound, secrets: Sequence[str], options: Any = None) -> Verified:
    """As the options say."""
    wanted = _options(options)
    return _token(inbound, secrets, wanted) if wanted.mode == "token" else _hmac(inbound, secrets, wanted)


def _token(inbound: Inbound, secrets: Sequence[str], wanted: HookOptions) -> Verified:
    if wanted.parameter is not None:
        sent = [value for name, value in payloads.query(inbound.url) if name == wanted.parameter]
        if len(sent) != 1 or not sent[0]:
            raise Refused("signature_missing", f"the URL does not have the parameter {wanted.parameter}, once")
        name, value = f"parameter {wanted.parameter}", sent[0]
    else:
        name, value = wanted.header, signing.header(inbound, wanted.header)
    if not value.startswith(wanted.prefix):
        raise Refused("signature_malformed", f"the {name} does not begin as configured")
    token = value.removeprefix(wanted.prefix)
    return Verified(f"{name}, shared secret", signing.fitting(secrets, lambda secret: signing.equal(secret, token)))


def _hmac(inbound: Inbound, secrets: Sequence[str], wanted: HookOptions) -> Verified:
    value = signing.header(inbound, wanted.header)
    if not value.startswith(wanted.prefix):
        raise Refused("signature_malformed", f"{wanted.header} does not begin as configured")
    sent = signing.decoded(value.removeprefix(wanted.prefix), wanted.encoding)
    values, signed_at = {"body": inbound.body}, None
    if wanted.timestamp_header:
        timestamp = signing.header(inbound, wanted.timestamp_header)
        signed_at = _seconds(timestamp)
        signing.check_window(signed_at, inbound, wanted.tolerance, wanted.tolerance)
        values["timestamp"] = timestamp.encode()
    if "{id}" in wanted.signed_text and wanted.event_id:
        values["id"] = signing.raw(signing.header(inbound, wanted.event_id))
    pieces = _HOLES.split(wanted.signed_text)  # text, name, text, name, ..., text
    signed = b"".join(values[piece] if number % 2 else piece.encode() for number, piece in enumerate(pieces))
    index = signing.fitting(
        secrets, lambda secret: signing.equal(signing.sign(secret, signed, wanted.algorithm), sent)
    )
    return Verified(f"{wanted.header}, HMAC-{wanted.algorithm.upper()}", index, signed_at)


def _seconds(timestamp: str) -> float:
    """Unix seconds, or milliseconds where there are 13 digits."""
    if re.fullmatch("[0-9]{13}", timestamp, re.ASCII):
        return int(timestamp) / 1000
    return float(signing.unix_time(timestamp))


def read(inbound: Inbound, _secrets: Sequence[str] = (), options: Any = None) -> list[Found]:
    """One event. Without ``event_id`` equal bodies are one event."""
    wanted, body = _options(options), payloads.read_json(inbound.body)

    def at(place: str | None) -> JSON:
        if place is None:
            return None
        return find(body, place)[1] if place.startswith("$") else inbound.headers.get(place)

    return [
        Found(
            key=payloads.event_key(inbound.body, at(wanted.event_id)),
            type=payloads.event_type(at(wanted.event_type)),
            occurred_at=payloads.from_any(at(wanted.event_time)),
            subject=payloads.text(at(wanted.subject)),
        )
    ]


def _signature_headers(options: Any) -> tuple[str, ...]:
    """The signature and what is signed with it; never a token, which is the secret itself."""
    wanted = _options(options)
    if wanted.mode == "token":
        return ()
    with_id = wanted.event_id if "{id}" in wanted.signed_text else None
    return tuple(filter(None, (wanted.header, wanted.timestamp_header, with_id)))


HOOKS = Scheme(
    verify=verify,
    read=read,
    options=HookOptions,
    secrets=("WEBHOOK_SECRET",),
    option_headers=_signature_headers,
    hint="Say in the options how the sender signs; without event_id equal bodies count as one event.",
    secret_problem=lambda secret: signing.plain_problem(secret, 8),
)

PROVIDER = Provider(
    slug="generic",
    label="Any webhook",
    kinds={},
    hooks=HOOKS,
    docs_url="https://datatracker.ietf.org/doc/html/rfc2104",
)
