"""Signatures of webhooks: what vendors' schemes have in common. Every comparison takes constant time.

Strict on purpose: a signature that the vendor would have written otherwise is refused, so that no other
encoding of the same bytes, and no second header, ever passes.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from providers.hooks import TOLERANCE, Inbound, Refused, Verified

Encoding = Literal["hex", "base64"]
Algorithm = Literal["sha256", "sha1", "sha512"]
_HEX = re.compile(r"(?:[0-9a-f]{2})+", re.ASCII)
_UNIX = re.compile(r"[0-9]{1,12}", re.ASCII)


def raw(text: str) -> bytes:
    """The bytes of a text from anywhere: never raises."""
    return text.encode("utf-8", "surrogatepass")


def raw_form(text: str) -> bytes:
    """The bytes of a value out of :func:`providers.payloads.read_form`, exactly as they came."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # no form of ours has other surrogates
        return raw(text)


def equal(one: str | bytes, other: str | bytes) -> bool:
    """Whether two secrets are the same, in constant time."""
    return hmac.compare_digest(
        raw(one) if isinstance(one, str) else one, raw(other) if isinstance(other, str) else other
    )


def any_equal(one: str | bytes, others: Iterable[str] | Iterable[bytes]) -> bool:
    """Whether a secret is among others; which one it is may show in the time taken, what it is may not."""
    return any(equal(one, other) for other in others)


def sign(secret: str | bytes, signed: bytes, algorithm: Algorithm = "sha256") -> bytes:
    """The HMAC of ``signed``."""
    return hmac.digest(raw(secret) if isinstance(secret, str) else secret, signed, algorithm)


def header(inbound: Inbound, name: str) -> str:
    """A header that must be there; raise :class:`Refused` (``signature_missing``)."""
    value = inbound.headers.get(name, "")
    if not value:
        raise Refused("signature_missing", f"there is no {name}")
    return value


def from_hex(text: str) -> bytes | None:
    """The bytes of lower-case hex, or None."""
    return bytes.fromhex(text) if _HEX.fullmatch(text) else None


def from_base64(text: str) -> bytes | None:
    """The bytes of padded base64 as an encoder writes it (no foreign characters, no stray bits), or None."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return decoded if base64.b64encode(decoded).decode() == text else None


def decoded(text: str, encoding: Encoding) -> bytes:
    """A digest as it was sent; raise :class:`Refused` (``signature_malformed``)."""
    digest = from_hex(text) if encoding == "hex" else from_base64(text)
    if not digest:
        kind = "lower-case hex" if encoding == "hex" else "base64"
        raise Refused("signature_malformed", f"the signature is not {kind}")
    return digest


def unix_time(text: str) -> int:
    """A signed time in unix seconds; raise :class:`Refused` (``signature_malformed``)."""
    if not _UNIX.fullmatch(text):
        raise Refused("signature_malformed", "the signed time is not in unix seconds")
    return int(text)


def check_window(signed_at: float, inbound: Inbound, past: float = TOLERANCE, future: float = TOLERANCE) -> None:
    """Refuse what was signed too long ago or will be; whole seconds, so that exactly ``past`` passes."""
    age = int(inbound.received_at) - signed_at
    if age > past:
        raise Refused("too_old", f"signed {age:.0f} s ago, at most {past:.0f} s are allowed")
    if -age > future:
        raise Refused("from_the_future", f"signed {-age:.0f} s in the future, at most {future:.0f} s are allowed")


def fitting(secrets: Sequence[str], fits: Callable[[str], bool]) -> int:
    """The index of the secret that fits; raise :class:`Refused`.

    A blank secret is none: anyone could sign with it.
    """
    usable = [(index, secret) for index, secret in enumerate(secrets) if secret]
    if not usable:
        raise Refused("not_configured", "no secret is configured")
    found = [index for index, secret in usable if fits(secret)]
    if not found:
        raise Refused("signature_mismatch", "the signature does not match any configured secret")
    return found[0]


@dataclass(frozen=True, slots=True)
class OverBody:
    """HMAC over the raw body, in one header: GitHub, WhatsApp, Shopify."""

    header: str
    encoding: Encoding = "hex"
    prefix: str = ""
    algorithm: Algorithm = "sha256"

    def verify(self, inbound: Inbound, secrets: Sequence[str]) -> Verified:
        """Believe the request, or raise :class:`Refused`."""
        value = header(inbound, self.header)
        if not value.startswith(self.prefix):
            raise Refused("signature_malformed", f"{self.header} does not begin with {self.prefix}")
        sent = decoded(value.removeprefix(self.prefix), self.encoding)
        index = fitting(secrets, lambda secret: equal(sign(secret, inbound.body, self.algorithm), sent))
        return Verified(f"{self.header}, HMAC-{self.algorithm.upper().replace('SHA', 'SHA-')}", index)


def plain_problem(secret: str, at_least: int = 1) -> str | None:
    """What is wrong with a secret that may be any text."""
    if not secret.strip():
        return "is blank"
    if secret != secret.strip():
        return "has spaces or line ends around it"
    if len(secret) < at_least:
        return f"is shorter than {at_least} characters, which can be guessed"
    return None
