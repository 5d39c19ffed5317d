"""Masking of secrets in whatever a person, a log or an export may see.

Two nets: the secrets that are known (given by the caller, or remembered by the process) in the forms
they take on the wire, and the shapes that secrets of common vendors have.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterable
from functools import lru_cache
from urllib.parse import quote, quote_plus

from wsmon.vocabulary import JSON

MASK = "***"
_SHORTEST = 4
"""Shorter values are words rather than secrets; masking them would make every message unreadable."""
_SHORTEST_REMEMBERED = 8
"""What is remembered is masked everywhere, in logs of other things too, so it must not be a word."""
_REMEMBERED_AT_MOST = 5_000
_DEPTH = 20

_NAMES = r"(?:key|token|secret|signature|sig|passw(?:or)?d|passphrase|pwd|credentials?|auth|session|jwt|hmac)"
_HEADERS = r"authorization|cookie|secret|token|password|passwd|api[_-]?key|access[_-]?key|private[_-]?key|signature"
# Each name is tried from its start only, or a long text would take quadratic time.
_SHAPES = re.compile(
    "|".join(
        (
            r"(?P<pem>-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z))",
            r"(?P<userinfo>(?<=://)[^/\s?#]+@)",
            # name=value in a query, a form or a configuration string
            rf"(?P<query>(?<![\w.-])[\w.-]*{_NAMES}=)[^&\s\"'#<>;,]+",
            # Name: value in headers, JSON and their Python forms
            rf"(?P<header>(?<![\w-])[\w-]*(?:{_HEADERS})(?:\\?[\"'])?\s*[:=]\s*(?:b?\\?[\"'])?"
            r"(?:(?:Basic|Bearer|Digest|Token|Bot|ApiKey)\s+)?)(?:(?<=[\"'])[^\"'\\]+|[^\s\"',;\\]+)",
            r"(?P<scheme>\b(?:Bearer|Basic)\s+)(?!auth|token|realm|scheme|credential)[\w+/.~=-]{6,}",
            r"(?P<slack>hooks\.slack\.com/(?:services|workflows|triggers)/)[\w/-]+",
            r"(?P<heartbeat>/api/heartbeat/)[\w-]{12,}",
            r"(?P<discord>discord(?:app)?\.com/api/webhooks/)[\w/-]+",
            r"(?P<prefix>\b(?:[srp]k_(?:live|test)_|whsec_|re_(?=\w{12})|sb_secret_|sb_publishable_|sbp_|"
            r"shp(?:at|ss|ca|pa)_|gh[opusr]_|github_pat_|xox[a-z]-|xapp-|GOCSPX-|glpat-|AKIA|ASIA|AIza|ya29\.|"
            r"EAA(?=\w{20})))[\w-]{6,}[\w.=-]*",
            r"(?P<sendgrid>(?<![\w-])SG\.)[\w-]{8,99}\.[\w-]{8,}",
            r"(?P<google>\b1//0)[\w-]{20,}",
            r"(?P<jwt>(?<![\w-])eyJ)[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*)?",
        )
    ),
    re.IGNORECASE,
)
_WHOLE = frozenset({"pem", "userinfo"})
_SECRET_KEY = re.compile(
    r"(?:secret|token|passw(?:or)?d|authorization|api_?key|private_?key|signature|cookie)$", re.IGNORECASE
)

_lock = threading.Lock()
_remembered: dict[str, tuple[str, ...]] = {}


def remember(secret: str) -> None:
    """Mask ``secret`` in everything this process redacts from now on. Cheap to repeat."""
    if secret in _remembered or len(secret) < _SHORTEST_REMEMBERED:
        return
    with _lock:
        if len(_remembered) >= _REMEMBERED_AT_MOST:
            _remembered.pop(next(iter(_remembered)))
        _remembered[secret] = _forms(secret)


def forget() -> None:
    """Empty the process-wide registry (for tests)."""
    with _lock:
        _remembered.clear()


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return ``text`` with every known secret and everything shaped like one replaced by ``***``."""
    if not text:
        return text
    for secret in secrets:
        if len(secret) >= _SHORTEST:
            text = _mask(text, _forms(secret))
    for forms in tuple(_remembered.values()):
        text = _mask(text, forms)
    return _mask_shapes(text) if len(text) <= 200 else _SHAPES.sub(_keep_label, text)


def redact_json(value: JSON, secrets: Iterable[str] = ()) -> JSON:
    """Redact every string in a JSON value, and whatever stands under a key such as ``password``."""
    return _redact_value(value, tuple(secrets), 0)


def _redact_value(value: JSON, secrets: tuple[str, ...], depth: int) -> JSON:
    if isinstance(value, str):
        return redact(value, secrets)
    if depth > _DEPTH:
        return MASK
    if isinstance(value, dict):
        return {
            redact(str(key), secrets): MASK
            if item and isinstance(item, str) and _SECRET_KEY.search(str(key))
            else _redact_value(item, secrets, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_redact_value(item, secrets, depth + 1) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact(str(value), secrets)


def _mask(text: str, forms: tuple[str, ...]) -> str:
    for form in forms:
        if form in text:
            text = text.replace(form, MASK)
    return text


@lru_cache(maxsize=2048)
def _mask_shapes(text: str) -> str:
    """Kept, because the same few messages come with every probe."""
    return _SHAPES.sub(_keep_label, text)


def _keep_label(match: re.Match[str]) -> str:
    kind = match.lastgroup or ""
    if kind == "userinfo":
        return MASK + "@"
    return MASK if kind in _WHOLE else match[kind] + MASK


@lru_cache(maxsize=1024)
def _forms(secret: str) -> tuple[str, ...]:
    """How a secret may look after being put into a URL, into JSON, or into a Basic header; longest first."""
    forms = {secret, secret.strip(), quote(secret, safe=""), quote(secret), quote_plus(secret)}
    forms |= {form.lower() for form in (quote(secret, safe=""), quote_plus(secret)) if "%" in form}
    forms |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    if len(secret) >= 8:
        raw = secret.encode()
        forms.add(raw.hex())
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            forms |= {_inside_base64(raw, shift, encode) for shift in range(3)}
    return tuple(sorted((form for form in forms if len(form) >= _SHORTEST), key=len, reverse=True))


def _inside_base64(raw: bytes, shift: int, encode: Callable[[bytes], bytes]) -> str:
    """The characters of a base64 text that depend on ``raw`` alone when ``shift`` bytes stand before it."""
    text = encode(b"\0" * shift + raw).decode()
    known = (shift + len(raw)) * 8 // 6
    return text[(shift * 8 + 5) // 6 : known]
