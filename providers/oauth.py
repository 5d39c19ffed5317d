"""Access tokens kept in this process until shortly before they expire, shared by its threads."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from providers.answers import Dialect, Meaning, Talk, Verdict, oauth_complaint

EARLY = 120.0
"""Seconds before its end at which a token is no longer used."""
LARGEST = 256
_lock = threading.Lock()
_kept: dict[str, Token] = {}

# Error codes: https://www.rfc-editor.org/rfc/rfc6749#section-5.2
REFUSALS = {
    "invalid_grant": Meaning.REFUSED,
    "invalid_client": Meaning.REFUSED,
    "unauthorized_client": Meaning.REFUSED,
    "access_denied": Meaning.REFUSED,
    "temporarily_unavailable": Meaning.SERVER,
}


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token; ``ends`` is on the monotonic clock, ``expires_at`` for people."""

    text: str
    ends: float
    expires_at: datetime


def token_dialect(vendor: str) -> Dialect:
    """How a vendor's token endpoint speaks."""
    return Dialect(vendor=vendor, complaint=oauth_complaint, meanings=REFUSALS)


def kept(talk: Talk, credential: tuple[str, ...], fetch: Callable[[], Token]) -> Token:
    """The token of ``credential``: a kept one that still lives, else what ``fetch`` gets.

    Kept under a hash of the credential, so a changed one is used at once. Two threads may fetch at the
    same time; both tokens are good.
    """
    key = _key(credential)
    with _lock:
        token = _kept.get(key)
    if token is None or token.ends - EARLY <= time.monotonic():
        token = fetch()
        with _lock:
            if len(_kept) >= LARGEST:
                _kept.clear()
            _kept[key] = token
    talk.secrets.append(token.text)
    talk.details["token_expires_at"] = token.expires_at.isoformat(timespec="seconds")
    return token


def forget(credential: tuple[str, ...]) -> None:
    """Drop a kept token, e.g. one that the vendor no longer takes."""
    with _lock:
        _kept.pop(_key(credential), None)


def grant(talk: Talk, url: str, form: dict[str, str], dialect: Dialect, advice: str) -> Token:
    """Ask a token endpoint; a refusal ends the probe with ``advice`` in its message."""
    try:
        answer = talk.ask(
            "POST",
            url,
            headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
            body=urlencode(form),
            dialect=dialect,
        )
    except Verdict as verdict:
        if REFUSALS.get(verdict.complaint.code) is not Meaning.REFUSED:
            raise
        raise Verdict(
            talk.say(
                verdict.outcome.outcome,
                f"{verdict.outcome.message}; {advice}",
                verdict.outcome.category,
            ),
            verdict.complaint,
        ) from None
    text, lives = answer.text("access_token"), answer.get("expires_in")
    talk.must(bool(text), "an access token")
    seconds = float(lives) if isinstance(lives, int | float) and 0 < lives < 10**7 else 300.0
    return Token(str(text), time.monotonic() + seconds, talk.context.now + timedelta(seconds=seconds))


def _key(credential: tuple[str, ...]) -> str:
    return hashlib.sha256("\0".join(credential).encode()).hexdigest()
