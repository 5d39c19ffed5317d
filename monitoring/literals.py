"""Secrets written out where a reference belongs: found on the way in, masked on the way out.

Only what is surely a secret is refused: a header that carries credentials, a password or key in a URL,
or a token in the shape of a well-known vendor's. Anything wider would refuse honest configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl, urlsplit

from wsmon.config.problems import Path
from wsmon.redact import MASK
from wsmon.secrets import is_reference
from wsmon.vocabulary import JSON

_HEADER = re.compile(
    r"(?:proxy-)?authorization|cookie|.*api-?key|.*(?:token|secret|password|signature)|x-[\w-]*key", re.IGNORECASE
)
_KEY = re.compile(r".*(?:password|passwd|secret|token|api_?key|private_?key)", re.IGNORECASE)
_QUERY = re.compile(r"api_?key|key|(?:access_|auth_)?token|secret|password|signature|sig", re.IGNORECASE)
_TOKEN = re.compile(
    r"\b(?:[sr]k_(?:live|test)_|whsec_|sb_secret_|shp(?:at|ss|ca|pa)_|gh[opusr]_|github_pat_|xox[a-z]-|GOCSPX-)[\w-]{8,}"
    r"|\bSG\.[\w-]{8,}\.[\w-]{8,}|\beyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]+|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\b(?:Bearer|Basic)\s+[\w+/.~=-]{8,}"
)


def literal_secrets(options: Mapping[str, JSON]) -> Iterator[tuple[Path, str]]:
    """Every place in options where a secret stands in clear, and what to do about it."""
    for path, value in _texts(options, ()):
        if is_reference(value) or not value:
            continue
        if _carries_secrets(path):
            yield path, "a secret does not belong here: write env:NAME or file:PATH, which gives the whole value"
        elif _in_url(value) or _TOKEN.search(value):
            yield path, "holds a secret: put the whole value behind env:NAME or file:PATH"


def mask(options: Mapping[str, JSON]) -> tuple[dict[str, JSON], list[Path]]:
    """A copy of the options with each literal secret masked, and where they were."""
    paths = [path for path, _ in literal_secrets(options)]
    return {key: _masked(value, (key,), set(paths)) for key, value in options.items()}, paths


def _texts(value: JSON, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))


def _carries_secrets(path: Path) -> bool:
    """By its name: an option, a header, a part of basic_auth or of a JSON body. What is expected is no secret."""
    if len(path) == 1:
        return bool(_KEY.fullmatch(str(path[0])))
    if path[0] == "headers":
        return bool(_HEADER.fullmatch(str(path[-1])))
    return path[0] in {"basic_auth", "json"} and bool(_KEY.fullmatch(str(path[-1])))


def _in_url(value: str) -> bool:
    """A password, or a query parameter that is a key, in something that has a scheme."""
    if "://" not in value:
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return bool(parts.password) or any(_QUERY.fullmatch(name) for name, _ in parse_qsl(parts.query))


def _masked(value: JSON, path: Path, secret: set[Path]) -> JSON:
    if path in secret:
        return MASK
    if isinstance(value, Mapping):
        return {key: _masked(item, (*path, key), secret) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, (*path, index), secret) for index, item in enumerate(value)]
    return value
