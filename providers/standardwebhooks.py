"""Standard Webhooks: the open scheme that Svix began, for every sender that follows it.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from providers import payloads, signing
from providers.base import Provider
from providers.details import dig
from providers.hooks import Found, Inbound, Refused, Scheme, Verified

STANDARD = "webhook-"
SVIX = "svix-"
BOTH = (STANDARD, SVIX)
_PREFIX = re.compile(r"(?:v1,)?(?:whsec_)?")
_ENTRY = re.compile(r"([^\s,]+),([^\s,]+)")


def keys_of(secret: str) -> tuple[bytes, ...]:
    """The keys of one configured secret: base64 after ``whsec_``, which may be left out.

    Supabase writes ``v1,whsec_...``, and several separated by ``|``. What is not base64 is no key.
    """
    return tuple(key for part in secret.split("|") if (key := _key(part.strip())))


def _key(text: str) -> bytes | None:
    encoded = _PREFIX.sub("", text, count=1)
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True) or None
    except ValueError:
        return None


def secret_problem(secret: str) -> str | None:
    """Whether it is base64 of 16 to 64 bytes (the specification says 24, some senders make shorter ones)."""
    if problem := signing.plain_problem(secret):
        return problem
    keys = keys_of(secret)
    if len(keys) != len(secret.split("|")):
        return "is not whsec_ followed by base64"
    if not all(16 <= len(key) <= 64 for key in keys):
        return "is not the base64 of 16 to 64 bytes"
    return None


@dataclass(frozen=True, slots=True)
class Family:
    """One sender's dialect: which header names it uses, and how it writes several signatures."""

    prefixes: tuple[str, ...] = BOTH
    commas: bool = False
    """Entries may be separated by ", " (GoTrue with several secrets), not by a space alone."""

    def headers(self) -> tuple[str, ...]:
        """The names that carry the signature."""
        return tuple(prefix + name for prefix in self.prefixes for name in ("id", "timestamp", "signature"))

    def id(self, inbound: Inbound) -> str:
        """The message's id, from the same set of headers as its signature."""
        return inbound.headers.get(f"{self._prefix(inbound)}id", "")

    def _prefix(self, inbound: Inbound) -> str:
        """The set of headers that is there; never mixed."""
        present = (prefix for prefix in self.prefixes if f"{prefix}signature" in inbound.headers)
        return next(present, self.prefixes[0])

    def verify(self, inbound: Inbound, secrets: Sequence[str], _options: Any = None) -> Verified:
        """HMAC-SHA256 over ``id.timestamp.body``; only ``v1`` entries count."""
        prefix = self._prefix(inbound)
        message = signing.header(inbound, f"{prefix}id")
        timestamp = signing.header(inbound, f"{prefix}timestamp")
        sent = self._entries(signing.header(inbound, f"{prefix}signature"))
        signed_at = signing.unix_time(timestamp)
        signing.check_window(signed_at, inbound)
        signed = signing.raw(f"{message}.{timestamp}.") + inbound.body

        def fits(secret: str) -> bool:
            digests = [signing.sign(key, signed) for key in keys_of(secret)]
            return any(signing.equal(digest, each) for digest in digests for each in sent)

        index = signing.fitting(secrets, fits)
        return Verified(f"{prefix}signature v1, HMAC-SHA256", index, float(signed_at))

    def _entries(self, value: str) -> list[bytes]:
        """The digests under v1; an entry that is not ``version,digest`` spoils the header."""
        digests = []
        for entry in value.split(" "):
            match = _ENTRY.fullmatch(entry.removesuffix(",") if self.commas else entry)
            if match is None:
                raise Refused("signature_malformed", "the signature is not a list of version,digest")
            if match[1] == "v1" and (digest := signing.from_base64(match[2])):
                digests.append(digest)
        if not digests:
            raise Refused("signature_malformed", "there is no v1 signature")
        return digests


FAMILY = Family()


def read(inbound: Inbound, _secrets: Sequence[str] = (), _options: Any = None) -> list[Found]:
    """``{type, timestamp, data}``, as the specification recommends; the message's id is the key."""
    body = payloads.read_object(inbound.body)
    kind = payloads.event_type(dig(body, "type") or dig(body, "eventType") or dig(body, "event"))
    when = payloads.from_iso(dig(body, "timestamp")) or payloads.from_iso(dig(body, "created_at"))
    key = payloads.event_key(inbound.body, FAMILY.id(inbound))
    return [Found(key, kind, when, payloads.text(dig(body, "data", "id")))]


HOOKS = Scheme(
    verify=FAMILY.verify,
    read=read,
    secrets=("STANDARD_WEBHOOKS_SECRET",),
    signed_headers=FAMILY.headers(),
    secret_problem=secret_problem,
)

PROVIDER = Provider(
    slug="standardwebhooks",
    label="Standard Webhooks",
    kinds={},
    hooks=HOOKS,
    docs_url="https://www.standardwebhooks.com",
)
