"""Standard Webhooks: the open scheme that Svix began, for every sender that follows it.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from providers import payloads, signing
from providers.base import Provider
from providers.details import dig
from providers.hooks import Found, Inbound, Refused, Scheme, Verified

STANDARD = "webhook-"
SVIX = "svix-"
BOTH = (STANDARD, SVIX)
HMAC, ED25519 = "v1", "v1a"
"""Versions of signatures ("Signature scheme"): by a shared secret, ``whsec_``, or a public key, ``whpk_``."""
NAMES = {HMAC: "v1, HMAC-SHA256", ED25519: "v1a, Ed25519"}
SIGNATURE_BYTES = 64
MOST_SIGNATURES = 8
"""Under v1a: each takes a tenth of a millisecond, and anybody can send some."""
_PREFIX = re.compile(r"(?:v1,)?(?:whsec_)?")
_PUBLIC = re.compile(r"(?:v1a,)?whpk_")
_PRIVATE = re.compile(r"(?:v1a,)?whsk_")
_ENTRY = re.compile(r"([^\s,]+),([^\s,]+)")


def keys_of(secret: str) -> tuple[bytes, ...]:
    """The shared keys of one configured secret: base64 after ``whsec_``, which may be left out.

    Supabase writes ``v1,whsec_...``, and several separated by ``|``. What is not base64 is no key, and a
    public key never one: everybody knows it.
    """
    return tuple(key for part in secret.split("|") if (key := _key(part.strip())))


def public_keys_of(secret: str) -> tuple[Ed25519PublicKey, ...]:
    """The public keys of one configured secret: base64 of 32 bytes after ``whpk_``."""
    return tuple(key for part in secret.split("|") if (key := _public_key(part.strip())))


def _key(text: str) -> bytes | None:
    if _PUBLIC.match(text) or _PRIVATE.match(text):
        return None
    return _decoded(_PREFIX.sub("", text, count=1))


def _public_key(text: str) -> Ed25519PublicKey | None:
    prefix = _PUBLIC.match(text)
    key = _decoded(text[prefix.end() :]) if prefix else None
    try:
        return Ed25519PublicKey.from_public_bytes(key) if key else None
    except ValueError:
        return None


def _decoded(encoded: str) -> bytes | None:
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True) or None
    except ValueError:
        return None


def secret_problem(secret: str) -> str | None:
    """Whether it is base64 of 16 to 64 bytes (the specification says 24, some senders make shorter ones), or a
    public key."""
    problems = (_part_problem(part.strip()) for part in secret.split("|"))
    return signing.plain_problem(secret) or next((problem for problem in problems if problem), None)


def _part_problem(part: str) -> str | None:
    if _PRIVATE.match(part):
        return "is a private key, which only the sender may know: enter the public one, whpk_"
    if _PUBLIC.match(part):
        return None if _public_key(part) else "is not whpk_ followed by the base64 of 32 bytes"
    key = _key(part)
    if key is None:
        return "is not whsec_ followed by base64"
    return None if 16 <= len(key) <= 64 else "is not the base64 of 16 to 64 bytes"


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
        """HMAC-SHA256 or Ed25519 over ``id.timestamp.body``; only ``v1`` and ``v1a`` entries count."""
        prefix = self._prefix(inbound)
        message = signing.header(inbound, f"{prefix}id")
        timestamp = signing.header(inbound, f"{prefix}timestamp")
        sent = self._entries(signing.header(inbound, f"{prefix}signature"))
        signed_at = signing.unix_time(timestamp)
        signing.check_window(signed_at, inbound)
        signed = signing.raw(f"{message}.{timestamp}.") + inbound.body
        versions: dict[str, str] = {}

        def fits(secret: str) -> bool:
            versions[secret] = _fitting(secret, signed, sent)
            return bool(versions[secret])

        index = signing.fitting(secrets, fits)
        return Verified(f"{prefix}signature {NAMES[versions[secrets[index]]]}", index, float(signed_at))

    def _entries(self, value: str) -> Mapping[str, Sequence[bytes]]:
        """The signatures by version; an entry that is not ``version,signature`` spoils the header."""
        found: dict[str, list[bytes]] = {HMAC: [], ED25519: []}
        for entry in value.split(" "):
            match = _ENTRY.fullmatch(entry.removesuffix(",") if self.commas else entry)
            if match is None:
                raise Refused("signature_malformed", "the signature is not a list of version,signature")
            if match[1] in found and (signature := signing.from_base64(match[2])):
                found[match[1]].append(signature)
        found[ED25519] = [signature for signature in found[ED25519] if len(signature) == SIGNATURE_BYTES]
        if not any(found.values()):
            raise Refused("signature_malformed", "there is no v1 or v1a signature")
        if len(found[ED25519]) > MOST_SIGNATURES:
            raise Refused("signature_malformed", f"there are more than {MOST_SIGNATURES} v1a signatures")
        return found


def _fitting(secret: str, signed: bytes, sent: Mapping[str, Sequence[bytes]]) -> str:
    """Under which version a secret fits; "" when it does not. A secret counts for its own version only."""
    digests = [signing.sign(key, signed) for key in keys_of(secret)]
    if any(signing.equal(digest, each) for digest in digests for each in sent[HMAC]):
        return HMAC
    signatures = sent[ED25519]
    return ED25519 if any(_signed_by(key, signatures, signed) for key in public_keys_of(secret)) else ""


def _signed_by(key: Ed25519PublicKey, signatures: Sequence[bytes], signed: bytes) -> bool:
    for signature in signatures:
        try:
            key.verify(signature, signed)
        except InvalidSignature:
            continue
        return True
    return False


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
