"""What the options of generic checks are made of. People read these messages beside a line number."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from wsmon.net import is_numeric
from wsmon.secrets import is_reference

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9_])?")


class Options(BaseModel):
    """Refuses unknown keys; never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _check_url(text: str) -> str:
    if is_reference(text):
        return text
    try:
        parts = urlsplit(text.strip())
        parts.port  # noqa: B018  (raises for a port that is none)
    except ValueError:
        raise ValueError("is not a valid URL such as https://example.com/health") from None
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL that begins with http:// or https:// and names a host")
    if re.search(r"\s", text.strip()):
        raise ValueError("must be a URL without spaces")
    return text.strip()


def _check_host(text: str) -> str:
    host = text.strip().strip("[]") if text.strip().startswith("[") else text.strip()
    if is_reference(host) or is_numeric(host):
        return host
    if "/" in host or ":" in host or "@" in host:
        raise ValueError("must be a host name or address only, without scheme, port or path")
    try:
        labels = host.rstrip(".").encode("idna").decode().split(".")
    except UnicodeError:
        labels = [""]
    if not all(_HOST.fullmatch(label) for label in labels):
        raise ValueError("is not a valid host name or address")
    return host


def _as_list(value: Any) -> Any:
    return value if value is None or isinstance(value, list | tuple) else [value]


Url = Annotated[str, Field(max_length=2_000), AfterValidator(_check_url)]
Host = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_check_host)]
Port = Annotated[int, Field(ge=1, le=65_535)]
Texts = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_as_list)]
"""One text or a list of texts."""
