"""Under which URLs vendors call: from the configuration, never from what a request says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from django.conf import settings

from wsmon.secrets import Unresolvable, is_reference, resolve

PATH = "/api/webhooks/"
ALIASES = {
    "communications/resend": "resend",
    "communications/twilio": "twilio",
    "communications/whatsapp": "whatsapp",
    "communications/calendar": "google_calendar",
}
"""Paths that stand for the source of a provider."""
_NOT_PUBLIC = ("*", "127.0.0.1", "localhost", "[::1]")


def bases() -> list[str]:
    """The likely beginnings of wsmon's own URLs, the most likely first."""
    if settings.PUBLIC_URL:
        return [settings.PUBLIC_URL]
    return _guessed(tuple(settings.ALLOWED_HOSTS), settings.BIND, settings.PRODUCTION)


@lru_cache(8)
def _guessed(allowed: Sequence[str], bind: str, production: bool) -> list[str]:
    public = [f"https://{host.lstrip('.')}" for host in allowed if host not in _NOT_PUBLIC]
    port = bind.rpartition(":")[2]
    return [*public, f"{'https' if production else 'http'}://{bind}", f"http://localhost:{port}"]


def url_of(slug: str, own: str = "") -> str:
    """What to enter at the vendor for a source; ``own``: what its configuration says."""
    return own_url(own) or f"{bases()[0]}{PATH}{slug}"


def own_url(own: str) -> str:
    """A source's configured URL, resolved; "" when its reference leads nowhere."""
    try:
        return resolve(own) if is_reference(own) else own
    except Unresolvable:
        return ""


def candidates(path: str, query: str, own: str = "") -> list[str]:
    """The URLs that a vendor who signs them may have called, for a request to ``path``.

    ``own`` is the source's configured one: then no other, as it is configured and with the request's query
    (a vendor who calls by GET adds its parameters there).
    """
    tail = f"?{query}" if query else ""
    if own:
        value = own_url(own)
        called = value.partition("?")[0] + tail
        return [value, called] if "?" in value and query and called != value else [called if query else value]
    return [f"{base}{path}{tail}" for base in bases()]
