"""The audit trail: every action of a person, a token or wsmon itself leaves one row."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest

from wsmon.models import ApiToken, AuditEntry
from wsmon.redact import redact, redact_json
from wsmon.vocabulary import JSON


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts. ``user`` is ``None`` for tokens and for wsmon itself; ``name`` outlives the account."""

    user: User | None
    name: str
    address: str | None = None

    @classmethod
    def of(cls, request: HttpRequest) -> Actor:
        """Return who sent ``request``: its token if it carried one, else the session's user."""
        address = address_of(request)
        token = getattr(request, "api_token", None)
        if isinstance(token, ApiToken):
            return cls(None, f"token:{token.name}", address)
        user = getattr(request, "user", None)
        if isinstance(user, User) and user.is_authenticated:
            return cls(user, user.get_username(), address)
        return cls(None, "anonymous", address)

    @classmethod
    def system(cls, name: str) -> Actor:
        """Return wsmon itself, e.g. ``Actor.system("housekeeping")``, or a command run on its host."""
        return cls(None, name)


def record(actor: Actor, action: str, target: str, reason: str = "", **details: Any) -> AuditEntry:
    """Write one audit row in the current transaction, so that it stands or falls with the action.

    ``action`` is "thing.verb" ("check.pause"), ``target`` "thing:name" ("service:stripe"). Texts are cut
    to their columns; secrets in ``reason`` and ``details`` are masked.
    """
    return AuditEntry.objects.create(
        actor=actor.user,
        actor_name=_clean(actor.name)[:200],
        action=action[:60],
        target=_clean(target)[:200],
        reason=redact(_clean(reason))[:500],
        address=actor.address,
        details=_clean_json(redact_json(details)),
    )


def address_of(request: HttpRequest) -> str | None:
    """Return the caller's IP address, or ``None`` when it cannot be known.

    Behind ``settings.TRUSTED_PROXIES`` = n proxies it is the n-th entry from the right of
    ``X-Forwarded-For``: each proxy appends the address it saw, and whatever stands further left is the
    caller's own claim.
    """
    return address_behind_proxies(request.META.get("REMOTE_ADDR", ""), request.META.get("HTTP_X_FORWARDED_FOR", ""))


def address_behind_proxies(peer_address: str, forwarded_for: str) -> str | None:
    """The same for what is no request of Django's: the peer's address, and the header's value."""
    peer = _address(peer_address)
    proxies: int = settings.TRUSTED_PROXIES
    if proxies < 1:
        return peer
    entries = forwarded_for.split(",")
    if len(entries) < proxies:
        return peer
    return _address(entries[-proxies]) or peer


@lru_cache(1024)
def _address(text: str) -> str | None:
    """Parse an address, with or without a port; some proxies append one."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _clean(text: str) -> str:
    """PostgreSQL stores neither NUL nor half a surrogate pair."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def _clean_json(value: JSON) -> JSON:
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, dict):
        return {_clean(key): _clean_json(item) for key, item in value.items()}
    return [_clean_json(item) for item in value] if isinstance(value, list) else value
