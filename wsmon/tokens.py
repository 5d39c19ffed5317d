"""API tokens: 256 random bits, shown once, kept as a SHA-256 digest.

A plain hash is enough for them: nobody can guess 256 random bits, so there is nothing to slow down.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import timedelta

import structlog
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from wsmon import audit
from wsmon.models import ApiToken
from wsmon.secrets import lookup

SCOPES: dict[str, str] = {
    "monitoring:read": "read statuses, history and metrics",
    "monitoring:admin": "test, pause and maintain services",
    "webhooks:read": "read events, deliveries and attempts",
    "webhooks:replay": "replay events",
    "events:publish": "publish outbound events",
}
"""What a token may be allowed to do. Scopes do not include one another."""

PREFIX = "wsm_"
"""Lets people and secret scanners recognise a token of wsmon."""

BOOTSTRAP_NAME = "bootstrap"
BOOTSTRAP_VARIABLE = "WSMON_BOOTSTRAP_TOKEN"
_LONGEST = 500
_USED_EVERY = timedelta(minutes=1)

log = structlog.get_logger(__name__)


class TokenError(ValueError):
    """A token cannot be made as asked; the message says why."""


def create(name: str, scopes: Iterable[str], actor: audit.Actor) -> tuple[ApiToken, str]:
    """Make a token; return its row and the token itself, which cannot be read again.

    Raises :class:`TokenError` for an unknown scope, no scope, or a name that is taken.
    """
    wanted = sorted(set(scopes))
    _check(name, wanted)
    text = PREFIX + secrets.token_urlsafe(32)
    try:
        with transaction.atomic():
            token = ApiToken.objects.create(name=name, digest=_digest(text), scopes=wanted)
            audit.record(actor, "token.create", f"token:{name}", scopes=wanted)
    except IntegrityError:
        raise TokenError(f'a token named "{name}" exists already') from None
    return token, text


def verify(text: str) -> ApiToken | None:
    """Return the unrevoked token whose text this is, or ``None``. Notes its use once a minute at most."""
    if not text or len(text) > _LONGEST:
        return None
    digest = _digest(text)
    token = ApiToken.objects.filter(digest=digest, revoked_at=None).first()
    if token is None or not hmac.compare_digest(token.digest, digest):
        return None
    _note_use(token)
    return token


def revoke(token: ApiToken, actor: audit.Actor, reason: str = "") -> bool:
    """Make a token useless from now on; return whether it was not so already."""
    with transaction.atomic():
        now = timezone.now()
        changed = ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now)
        if changed:
            audit.record(actor, "token.revoke", f"token:{token.name}", reason)
    return bool(changed)


def ensure_bootstrap_token() -> ApiToken | None:
    """Make the token that ``WSMON_BOOTSTRAP_TOKEN`` asks for exist, with every scope; idempotent.

    A changed value replaces the old one, an absent variable removes the token, and one that somebody
    revoked stays revoked until the value changes. Called where wsmon is set up, before it serves.
    """
    text = (lookup(BOOTSTRAP_VARIABLE) or "").strip()
    if not text:
        _drop_bootstrap()
        return None
    if len(text) > _LONGEST:
        raise TokenError(f"{BOOTSTRAP_VARIABLE} is longer than {_LONGEST} characters")
    if len(text) < 32:
        log.warning("bootstrap_token_short", advice=f"give {BOOTSTRAP_VARIABLE} 32 random characters or more")
    return _keep_bootstrap(_digest(text))


@transaction.atomic
def _drop_bootstrap() -> None:
    count, _ = ApiToken.objects.filter(name=BOOTSTRAP_NAME).delete()
    if count:
        _record_bootstrap("token.remove", "is not set any more")


def _record_bootstrap(action: str, why: str, **details: list[str]) -> None:
    reason = f"{BOOTSTRAP_VARIABLE} {why}"
    audit.record(audit.Actor.system("wsmon"), action, f"token:{BOOTSTRAP_NAME}", reason, **details)


def _keep_bootstrap(digest: str) -> ApiToken:
    scopes = sorted(SCOPES)
    try:
        with transaction.atomic():
            token, made = ApiToken.objects.select_for_update().get_or_create(
                name=BOOTSTRAP_NAME, defaults={"digest": digest, "scopes": scopes}
            )
            if made:
                _record_bootstrap("token.create", "is set", scopes=scopes)
            elif token.digest != digest:
                token.digest, token.revoked_at, token.last_used_at = digest, None, None
                _record_bootstrap("token.replace", "has another value", scopes=scopes)
            elif token.scopes != scopes:
                _record_bootstrap("token.change", "gives every scope, and there are others now", scopes=scopes)
            token.scopes = scopes
            token.save(update_fields=["digest", "scopes", "revoked_at", "last_used_at"])
    except IntegrityError:
        raise TokenError(f"{BOOTSTRAP_VARIABLE} is the text of another token: choose another") from None
    return token


def _check(name: str, scopes: list[str]) -> None:
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown:
        raise TokenError(f"unknown scope {unknown[0]!r}; there are {', '.join(SCOPES)}")
    if not scopes:
        raise TokenError("a token needs at least one scope")
    if not name.strip() or len(name) > 100 or "\x00" in name:
        raise TokenError("a token's name has 1 to 100 characters")
    if name == BOOTSTRAP_NAME:
        raise TokenError(f'the name "{BOOTSTRAP_NAME}" belongs to {BOOTSTRAP_VARIABLE}')


def _note_use(token: ApiToken) -> None:
    """Keep ``last_used_at`` fresh to the minute without writing at every request."""
    now = timezone.now()
    if token.last_used_at is not None and now - token.last_used_at < _USED_EVERY:
        return
    stale = Q(last_used_at=None) | Q(last_used_at__lt=now - _USED_EVERY)
    ApiToken.objects.filter(stale, pk=token.pk).update(last_used_at=now)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
