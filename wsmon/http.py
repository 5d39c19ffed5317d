"""The only outbound HTTP client. Every probe goes through :meth:`Client.request`.

One deadline over the whole exchange, a cap on what is read, the guard against private addresses at
connect time (on every hop of a redirect too), no proxies, no cookies, no environment, timed phases.
Sockets and the guard are in wsmon/net.py, HTTP on the socket in wsmon/wire.py.
"""

from __future__ import annotations

import json as json_module
import logging
import os
import re
import socket
import threading
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, TypeAlias, TypeVar, overload
from urllib.parse import unquote, urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.models import PreparedRequest
from requests.structures import CaseInsensitiveDict
from urllib3 import Timeout

from wsmon import net
from wsmon.net import BlockedAddress, Exchange, Guard, HttpError, TlsInfo
from wsmon.redact import redact
from wsmon.vocabulary import JSON, Category, Timings
from wsmon.wire import Answer, Call, IdleConnections, Target

__all__ = [
    "BlockedAddress",
    "Client",
    "Guard",
    "Headers",
    "HttpError",
    "NotJson",
    "Response",
    "TlsInfo",
    "guarded_connect",
    "http_client",
]

_log = logging.getLogger(__name__)
Redirects: TypeAlias = Literal["none", "same-host", "follow"]
MAX_BYTES = 1_048_576
_HOPS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_METHOD = re.compile(r"[A-Z]{1,20}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_NO_TIMEOUT = Timeout(None)
_FOR_ANY_HOST = frozenset({"accept", "accept-encoding", "accept-language", "content-type", "user-agent"})
"""Headers that are sent along when a redirect leads to another host; all others may be credentials."""
try:
    USER_AGENT = f"wsmon/{version('wsmon')}"
except PackageNotFoundError:
    USER_AGENT = "wsmon/0.1.0"


class NotJson(HttpError):
    """The body of an answer is not JSON."""


_T = TypeVar("_T")


class Headers(Mapping[str, str]):
    """Headers of an answer, case-insensitive; repeated ones are joined by a comma (RFC 9110, 5.3)."""

    __slots__ = ("_values",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._values: dict[str, str] = {}
        for name, value in pairs:
            key = name.lower()
            self._values[key] = f"{self._values[key]}, {value}" if key in self._values else value

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    # The mapping's own `get` is made of an exception for each header that is not there.
    @overload
    def get(self, name: str, /) -> str | None: ...
    @overload
    def get(self, name: str, /, default: str | _T) -> str | _T: ...
    def get(self, name: str, /, default: Any = None) -> Any:
        """The value of a header; ``default`` when there is none."""
        return self._values.get(name.lower(), default)


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. ``url`` is where it came from (userinfo removed), ``redirects`` what led there.

    ``truncated`` says that there was more than ``max_bytes``, which was not read.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=Headers, repr=False)
    body: bytes = field(default=b"", repr=False)
    timings: Timings = field(default_factory=Timings)
    url: str = field(default="", repr=False)
    truncated: bool = False
    tls: TlsInfo | None = None
    redirects: tuple[str, ...] = field(default=(), repr=False)

    @property
    def ok(self) -> bool:
        """True for a 2xx."""
        return 200 <= self.status < 300

    def text(self) -> str:
        """The body as text, in the charset it declares or UTF-8; undecodable bytes become U+FFFD."""
        match = re.search(r"charset=[\"']?([\w.:-]+)", self.headers.get("content-type", ""), re.IGNORECASE)
        try:
            return self.body.decode(match[1] if match else "utf-8", "replace")
        except LookupError:
            return self.body.decode("utf-8", "replace")

    def json(self) -> JSON:
        """The body as JSON; raise :class:`NotJson`."""
        try:
            return json_module.loads(self.body)
        except (ValueError, RecursionError):
            if self.truncated:
                what = "is larger than what wsmon reads"
            else:
                what = "is an HTML page" if self.body.lstrip()[:1] == b"<" else "is not JSON"
            message = f"the answer ({self.status}) {what}, where JSON was expected"
            raise NotJson(message, Category.VALIDATION_ERROR, timings=self.timings) from None


class _Prepared(PreparedRequest):
    """A request that knows its call, so that the adapter need not look anything up."""

    call: Call


class _Reply(requests.Response):
    """Without the cookie jar that takes longer to make than everything else."""

    def __init__(self) -> None:
        self._content = False  # type: ignore[assignment]
        self._content_consumed = False
        self.encoding = None
        self.history = []
        self.reason = ""


class _Adapter(HTTPAdapter):
    """The transport under ``requests``: its ``send`` (which test doubles patch) on our own wire."""

    def get_connection_with_tls_context(self, request: Any, *_: Any, **__: Any) -> Any:
        return request.call

    def cert_verify(self, *_: Any, **__: Any) -> None:
        """TLS settings belong to the wire."""

    def request_url(self, request: Any, *_: Any) -> str:
        return str(request.call.target.path)

    def build_response(self, req: PreparedRequest, resp: Any) -> requests.Response:
        """Only what :class:`Client` reads; cookies are never kept."""
        response = _Reply()
        response.status_code = resp.status
        pairs = resp.headers if isinstance(resp, Answer) else resp.headers.items()
        response.headers = Headers(pairs)  # type: ignore[assignment]
        response.raw = resp
        response.request = req
        response.url = req.url or ""
        return response


class Client:
    """A thread-safe HTTP client with kept-alive connections.

    ``allow_private`` lists networks (CIDR) that may be reached although they are loopback, private or
    otherwise special; a bad one raises ValueError.
    """

    def __init__(self, allow_private: Iterable[str] = (), *, connections: int = 512) -> None:
        self.guard = Guard(allow_private)
        self._idle = IdleConnections(connections)
        self._adapter = _Adapter(pool_connections=1, pool_maxsize=1)

    def get(self, url: str, **options: Any) -> Response:
        """``request("GET", ...)``."""
        return self.request("GET", url, **options)

    def post(self, url: str, **options: Any) -> Response:
        """``request("POST", ...)``."""
        return self.request("POST", url, **options)

    def request(  # noqa: PLR0913
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | str | None = None,
        json: JSON = None,
        timeout: float,
        max_bytes: int = MAX_BYTES,
        redirects: Redirects = "none",
        verify: bool | str = True,
        secrets: Iterable[str] = (),
    ) -> Response:
        """Do one exchange and return the whole answer, whatever its status; raise :class:`HttpError`.

        ``timeout`` (seconds) holds over everything: name, connection, TLS, redirects, headers and body.
        ``max_bytes`` caps the decoded body. ``redirects``: "none" returns a 3xx as it is, "same-host"
        follows on the same host only, "follow" follows up to 5 hops anywhere the guard permits.
        ``verify``: False, or the path of a file of certificate authorities. ``secrets`` are masked in
        error messages; nothing but the host is ever quoted from the URL.
        """
        exchange = Exchange(timeout)
        try:
            target = _target(url)
            sent, content = _prepare(method, headers, body, json)
            if target.authorization:
                sent.setdefault("Authorization", target.authorization)
            hop = _Hop(method, target, sent, content)
            return self._follow(hop, exchange, redirects, verify, max_bytes)
        except HttpError as error:
            error.timings = exchange.timings()
            error.message = redact(error.message, secrets)
            error.args = (error.message,)
            raise

    def connect(self, host: str, port: int, timeout: float) -> tuple[socket.socket, Timings]:
        """Open a guarded TCP connection, for probes that do not speak HTTP; raise :class:`HttpError`.

        The socket's timeout is what is left of ``timeout``.
        """
        exchange = Exchange(timeout)
        try:
            sock = net.connect(host, port, self.guard, exchange)
            sock.settimeout(exchange.left())
        except HttpError as error:
            error.timings = exchange.timings()
            raise
        return sock, exchange.timings()

    def close(self) -> None:
        """Close the kept-alive connections. The client can still be used."""
        self._idle.close()

    def _follow(
        self, hop: _Hop, exchange: Exchange, redirects: Redirects, verify: bool | str, max_bytes: int
    ) -> Response:
        seen: list[str] = []
        while True:
            call = Call(hop.target, exchange, self._idle, self.guard, verify=verify, max_bytes=max_bytes)
            status, answered, body, truncated, tls = self._send(call, hop)
            location = answered.get("location") if status in _REDIRECTS and redirects != "none" else None
            if location is None:
                timings = exchange.timings()
                return Response(status, answered, body, timings, hop.target.url, truncated, tls, tuple(seen))
            seen.append(hop.target.url)
            hop = _next_hop(hop, status, location, seen, redirects)

    def _send(self, call: Call, hop: _Hop) -> tuple[int, Headers, bytes, bool, TlsInfo | None]:
        request = _Prepared()
        request.call = call
        request.method = hop.method
        request.url = hop.target.url
        request.headers = hop.headers
        request.body = hop.body
        try:
            reply = self._adapter.send(request, stream=True, timeout=_NO_TIMEOUT, verify=call.verify)  # type: ignore[arg-type]
        except (requests.RequestException, OSError) as error:
            raise _from_requests(error, call) from None
        raw: Any = reply.raw
        headers: Any = reply.headers
        if isinstance(raw, Answer):
            return raw.status, headers, raw.body(), raw.truncated, raw.tls
        content = raw.read(call.max_bytes + 1, decode_content=True)
        return raw.status, headers, content[: call.max_bytes], len(content) > call.max_bytes, None


@dataclass(frozen=True, slots=True)
class _Hop:
    method: str
    target: Target
    headers: CaseInsensitiveDict[str]
    body: bytes | None


def _next_hop(hop: _Hop, status: int, location: str, seen: list[str], redirects: Redirects) -> _Hop:
    """Where a redirect leads, with the method changed as RFC 9110, 15.4 and browsers have it."""
    here = hop.target
    try:
        target = _target(urljoin(here.url, location))
    except (HttpError, ValueError):
        raise HttpError(f"{here.host} redirects to something that is no URL", _INVALID) from None
    if target.url in seen:
        raise HttpError(f"{here.host} redirects in a loop of {len(seen)}", _INVALID)
    if len(seen) > _HOPS:
        raise HttpError(f"{here.host} redirects more than {_HOPS} times", _INVALID)
    elsewhere = target.host != here.host
    if elsewhere and redirects == "same-host":
        raise HttpError(f"{here.host} redirects to another host ({target.host})", _INVALID)
    if here.scheme == "https" and target.scheme == "http":
        raise HttpError(f"{here.host} redirects from https to http", _INVALID)
    method, body, headers = hop.method, hop.body, hop.headers.copy()
    if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
        method, body = "GET", None
    if elsewhere or (target.scheme, target.port) != (here.scheme, here.port):
        if body is not None:
            raise HttpError(f"{here.host} redirects a request with a body to {target.netloc}", _INVALID)
        headers = CaseInsensitiveDict(
            {name: value for name, value in headers.items() if name.lower() in _FOR_ANY_HOST}
        )
    if body is None:
        headers.pop("Content-Length", None)
        headers.pop("Content-Type", None)
    return _Hop(method, target, headers, body)


_INVALID = Category.VALIDATION_ERROR


def _from_requests(error: Exception, call: Call) -> HttpError:
    """What ``requests`` itself raised (only test doubles make it), in our words."""
    if isinstance(error, requests.Timeout):
        return HttpError(f"timed out after {call.exchange.timeout:.3g} s", Category.TIMEOUT_ERROR)
    if isinstance(error, requests.exceptions.SSLError):
        return HttpError(f"no TLS connection to {call.target.host}", Category.TLS_ERROR)
    return HttpError(f"no connection to {call.target.host}", Category.NETWORK_ERROR)


def _ours(message: str) -> HttpError:
    return HttpError(message, Category.CONFIGURATION_ERROR, ours=True)


@lru_cache(maxsize=4096)
def _target(url: str) -> Target:
    """Parse and check a URL; a bad one is our own fault. Userinfo becomes an Authorization header."""
    prepared = PreparedRequest()
    try:
        prepared.prepare_url(url.strip(), None)
        parts = urlsplit(prepared.url or "")
        host, port = parts.hostname, urlsplit(url.strip()).port  # requests drops a port 0
    except (requests.RequestException, ValueError):
        raise _ours("the URL is not a valid one such as https://example.com/path") from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise _ours("the URL must begin with http:// or https:// and name a host")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    userinfo, _, netloc = parts.netloc.rpartition("@")
    authorization = None
    if userinfo:
        pair = ":".join(unquote(part) for part in (userinfo + ":").split(":", 1)).removesuffix(":")
        authorization = "Basic " + b64encode((pair if ":" in pair else pair + ":").encode()).decode()
    default = 443 if parts.scheme == "https" else 80
    whole = f"{parts.scheme}://{netloc}{path}"
    return Target(parts.scheme, host.rstrip("."), port or default, path, netloc, whole, authorization)


def _prepare(
    method: str, headers: Mapping[str, str] | None, body: bytes | str | None, json: JSON
) -> tuple[CaseInsensitiveDict[str], bytes | None]:
    if not _METHOD.fullmatch(method):
        raise _ours("the method must be an upper-case word such as GET")
    sent: CaseInsensitiveDict[str] = CaseInsensitiveDict(
        {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "gzip"}
    )
    content = body.encode() if isinstance(body, str) else body
    if json is not None:
        content = json_module.dumps(json, separators=(",", ":")).encode()
        sent["Content-Type"] = "application/json"
    for name, value in (headers or {}).items():
        if not _HEADER_NAME.fullmatch(name):
            raise _ours("a header's name has characters that are not allowed")
        if not _HEADER_VALUE.fullmatch(value):
            raise _ours(f"the value of header {name} has characters that are not allowed")
        if name.lower() in ("content-length", "transfer-encoding", "connection"):
            raise _ours(f"the header {name} is set by wsmon itself")
        sent[name] = value
    if content is not None:
        sent["Content-Length"] = str(len(content))
    elif method in ("POST", "PUT", "PATCH"):
        sent["Content-Length"] = "0"
    return sent, content


_shared: Client | None = None
_shared_lock = threading.Lock()


def http_client() -> Client:
    """The process-wide client; it may reach what settings.ALLOW_PRIVATE_TARGETS lists.

    An entry that is no network is logged and opens nothing.
    """
    global _shared  # noqa: PLW0603
    if _shared is None:
        from django.conf import settings  # noqa: PLC0415  (providers are usable without Django)

        with _shared_lock:
            if _shared is None:
                _shared = Client(_networks(settings.ALLOW_PRIVATE_TARGETS))
    return _shared


def _networks(texts: Iterable[str]) -> list[str]:
    fine: list[str] = []
    for text in texts:
        try:
            Guard([text])
            fine.append(text)
        except ValueError as error:
            _log.error("%s", error)
    return fine


def guarded_connect(host: str, port: int, timeout: float) -> tuple[socket.socket, Timings]:
    """:meth:`Client.connect` of the process-wide client."""
    return http_client().connect(host, port, timeout)


def _forget_shared() -> None:
    """A child process must not share its parent's connections."""
    global _shared, _shared_lock  # noqa: PLW0603
    _shared = None
    _shared_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_shared)
