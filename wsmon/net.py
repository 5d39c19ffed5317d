"""Reaching an address: the guard against private ones, names, sockets, TLS, one deadline over all of it.

Every phase is timed and takes its timeout from what is left of the whole exchange, so that neither a
name server, a TLS handshake nor a byte a second outlasts the deadline.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import ssl
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from time import monotonic
from typing import TypeAlias

import certifi
from cryptography import x509
from cryptography.x509.oid import NameOID

from wsmon.vocabulary import Category, Timings

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
SETTING = "WSMON_ALLOW_PRIVATE_TARGETS"

_SHARED = ipaddress.ip_network("100.64.0.0/10")  # RFC 6598, carrier-grade NAT
_TRANSLATED = (
    ipaddress.ip_network("64:ff9b::/96"),  # RFC 6052, NAT64
    ipaddress.ip_network("64:ff9b:1::/48"),  # RFC 8215
    ipaddress.ip_network("2002::/16"),  # RFC 3056, 6to4
    ipaddress.ip_network("2001::/32"),  # RFC 4380, Teredo
    ipaddress.ip_network("::/96"),  # RFC 4291, IPv4-compatible
)
_LOOKUPS_AT_ONCE = 128


class HttpError(Exception):
    """An exchange failed. ``message`` is one sentence without secrets, paths or library internals.

    ``ours`` is True when the fault is on our side (a refused address, a bad URL), else the target's.
    """

    def __init__(
        self, message: str, category: Category, *, ours: bool = False, timings: Timings | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.category = category
        self.ours = ours
        self.timings = timings or Timings()


class BlockedAddress(HttpError):
    """The guard refused every address of a host."""


@dataclass(frozen=True, slots=True)
class TlsInfo:
    """The TLS session of a connection and the certificate of the server."""

    version: str
    cipher: str
    not_after: datetime
    issuer: str
    subject: str

    @property
    def days_left(self) -> int:
        """Whole days until the certificate expires; negative when it has."""
        return (self.not_after - datetime.now(UTC)).days


class Exchange:
    """The clock of one exchange: its deadline, the phase it is in, and what each phase took."""

    __slots__ = (
        "connect_ms",
        "dns_ms",
        "first_byte_ms",
        "phase",
        "started",
        "timeout",
        "tls_ms",
        "until",
    )

    def __init__(self, timeout: float) -> None:
        self.started = monotonic()
        self.timeout = timeout
        self.until = self.started + timeout
        self.phase = "connecting"
        self.dns_ms: float | None = None
        self.connect_ms: float | None = None
        self.tls_ms: float | None = None
        self.first_byte_ms: float | None = None

    def left(self) -> float:
        """Seconds until the deadline; raise the timeout's :class:`HttpError` when there are none."""
        left = self.until - monotonic()
        if left <= 0:
            raise self.timed_out()
        return left

    def timed_out(self) -> HttpError:
        """The error of a deadline that passed in the present phase."""
        return HttpError(f"timed out after {round(self.timeout, 2):g} s {self.phase}", Category.TIMEOUT_ERROR)

    def timings(self) -> Timings:
        """What was measured until now."""
        total = round((monotonic() - self.started) * 1000, 3)
        return Timings(self.dns_ms, self.connect_ms, self.tls_ms, self.first_byte_ms, total)


def add_ms(so_far: float | None, since: float) -> float:
    """Milliseconds since ``since`` (monotonic) on top of what earlier hops of a redirect took."""
    return round((so_far or 0.0) + (monotonic() - since) * 1000, 3)


class Guard:
    """Decides which addresses may be reached. Loopback, private and special ranges only when listed.

    ``allowed`` are networks in CIDR notation or single addresses; ValueError names a bad one.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self.allowed: list[Network] = []
        for text in allowed:
            try:
                self.allowed.append(ipaddress.ip_network(text.strip(), strict=False))
            except ValueError:
                raise ValueError(f"{SETTING}: {text.strip()!r} is not a network such as 10.0.0.0/8") from None

    def refuses(self, address: str) -> str | None:
        """Say what is wrong with a numeric address ("loopback", "private", ...); None when it is fine."""
        parsed = ipaddress.ip_address(address)
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        if any(parsed.version == network.version and parsed in network for network in self.allowed):
            inner = _embedded(parsed)
            return self.refuses(str(inner)) if inner else None
        return special(parsed)

    def check(self, host: str, addresses: Iterable[str]) -> list[str]:
        """Return those of a host's addresses that may be reached; raise :class:`BlockedAddress` if none."""
        fine: list[str] = []
        refused: tuple[str, str] | None = None
        for address in addresses:
            why = self.refuses(address)
            if why is None:
                fine.append(address)
            elif refused is None:
                refused = (address, why)
        if refused and not fine:
            address, why = refused
            what = f"{host} is" if host == address else f"{host} resolves to {address},"
            raise BlockedAddress(
                f"{what} a {why} address, which wsmon may reach only when {SETTING} lists it",
                Category.CONFIGURATION_ERROR,
                ours=True,
            )
        return fine


def special(address: Address) -> str | None:
    """Name the special range an address is in; None when it is an ordinary public address."""
    if address.is_unspecified:
        return "unspecified"
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    if address.is_multicast:
        return "multicast"
    if isinstance(address, ipaddress.IPv4Address):
        if address in _SHARED:
            return "carrier-grade NAT"
    elif any(address in network for network in _TRANSLATED):
        return "translated IPv4"
    if address.is_reserved or (isinstance(address, ipaddress.IPv6Address) and address.is_site_local):
        return "reserved"
    return None if address.is_global else "private"


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a NAT64 or 6to4 gateway would go on to."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _TRANSLATED[0]:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address.sixtofour is not None:
            return address.sixtofour
    return None


def is_numeric(host: str) -> bool:
    """True for an IPv4 or IPv6 address in its usual notation."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


_lookups: dict[str, Future[list[str]]] = {}
_lookups_lock = threading.Lock()


def resolve(host: str, exchange: Exchange) -> list[str]:
    """Return a host's numeric addresses, in the system's order, within the deadline.

    ``getaddrinfo`` cannot be interrupted, so it runs in a thread of its own; callers that ask for the
    same host at the same time share one.
    """
    if is_numeric(host):
        return [host]
    began = monotonic()
    exchange.phase = f"looking up the name {host}"
    try:
        return _lookup(host).result(exchange.left())
    except TimeoutError:
        message = f"timed out after {round(exchange.timeout, 2):g} s {exchange.phase}"
        raise HttpError(message, Category.DNS_ERROR) from None
    except UnicodeError:
        raise HttpError(f"{host} is not a valid host name", Category.CONFIGURATION_ERROR, ours=True) from None
    except OSError as error:
        raise HttpError(_name_error(host, error), Category.DNS_ERROR) from None
    finally:
        exchange.dns_ms = add_ms(exchange.dns_ms, began)


def _name_error(host: str, error: OSError) -> str:
    if error.errno == socket.EAI_AGAIN:
        return f"the name server did not answer for {host}"
    if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
        return f"the name {host} does not exist"
    return f"the name {host} could not be looked up"


def _lookup(host: str) -> Future[list[str]]:
    with _lookups_lock:
        pending = _lookups.get(host)
        if pending is None:
            if len(_lookups) >= _LOOKUPS_AT_ONCE:
                raise OSError(socket.EAI_AGAIN, "too many lookups hang")
            pending = _lookups[host] = Future()
            threading.Thread(target=_run_lookup, args=(host, pending), name="lookup", daemon=True).start()
        return pending


def _run_lookup(host: str, future: Future[list[str]]) -> None:
    addresses: list[str] = []
    failure: Exception | None = None
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    except Exception as error:
        failure = error
    with _lookups_lock:  # first, so that nobody gets an answer that was there before he asked
        _lookups.pop(host, None)
    if failure is None:
        future.set_result(addresses)
    else:
        future.set_exception(failure)


def _forget_lookups() -> None:
    """Threads do not survive a fork, so neither do the lookups they were at."""
    global _lookups_lock  # noqa: PLW0603
    _lookups.clear()
    _lookups_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_lookups)


def connect(host: str, port: int, guard: Guard, exchange: Exchange) -> socket.socket:
    """Open a TCP connection to the first of the host's permitted addresses that accepts one.

    The address that was checked is the one connected to: a second lookup cannot slip in another.
    """
    addresses = guard.check(host, resolve(host, exchange))
    began = monotonic()
    exchange.phase = f"connecting to {host}:{port}"
    failure = OSError()
    try:
        for index, address in enumerate(addresses):
            patience = exchange.left() / (len(addresses) - index)
            try:
                return _connect_to(address, port, patience)
            except OSError as error:
                failure = error
    finally:
        exchange.connect_ms = add_ms(exchange.connect_ms, began)
    if isinstance(failure, TimeoutError) and failure.errno is None:
        raise exchange.timed_out()
    message = connect_error(failure, f"{host}:{port}")
    if failure.errno in _OUR_SHORTAGES:
        raise HttpError(message, Category.CONFIGURATION_ERROR, ours=True)
    raise HttpError(message, Category.NETWORK_ERROR)


def _connect_to(address: str, port: int, timeout: float) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if "%" in address:  # a scope, as in fe80::1%eth0
            sock.connect(socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][4])
        else:
            sock.connect((address, port))
    except BaseException:
        sock.close()
        raise
    return sock


_CONNECT_ERRORS = {
    errno.ECONNREFUSED: "{} refused the connection",
    errno.ECONNRESET: "{} reset the connection",
    errno.ENETUNREACH: "the network of {} cannot be reached",
    errno.EHOSTUNREACH: "{} cannot be reached",
    errno.ETIMEDOUT: "{} did not answer the connection attempt",
}
_OUR_SHORTAGES = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM}
)
"""Errors of this machine: too many files open, no port left, a firewall of its own."""


def connect_error(error: OSError, place: str) -> str:
    """One sentence for a failed connection attempt."""
    if error.errno in _OUR_SHORTAGES:
        return f"this machine could not open a connection to {place} ({errno.errorcode[error.errno or 0]})"
    return _CONNECT_ERRORS.get(error.errno or 0, "no connection to {}").format(place)


def tls_context(verify: bool | str = True, *, for_http: bool = True) -> ssl.SSLContext:
    """The TLS settings: certifi's authorities (and those of SSL_CERT_FILE), a private CA file, or none.

    Made once; a private file is read again when it has changed. OSError when it cannot be read.
    """
    return _tls_context(verify, for_http, os.stat(verify).st_mtime if isinstance(verify, str) else 0.0)


@lru_cache(maxsize=64)
def _tls_context(verify: bool | str, for_http: bool, changed: float) -> ssl.SSLContext:
    del changed  # part of the key
    context = ssl.create_default_context(cafile=certifi.where() if verify is True else None)
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif verify is True:
        if os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR"):
            context.load_default_certs()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=verify)
    if for_http:  # a server of another protocol may refuse a client that names this one
        context.set_alpn_protocols(["http/1.1"])
    return context


def start_tls(
    sock: socket.socket, host: str, exchange: Exchange, verify: bool | str = True, *, for_http: bool = True
) -> tuple[ssl.SSLSocket, TlsInfo]:
    """Do the TLS handshake on a connected socket; on failure the socket is closed and HttpError raised."""
    began = monotonic()
    exchange.phase = f"in the TLS handshake with {host}"
    try:
        context = tls_context(verify, for_http=for_http)
    except OSError:
        sock.close()
        message = "the file of certificate authorities (verify) cannot be read"
        raise HttpError(message, Category.CONFIGURATION_ERROR, ours=True) from None
    try:
        sock.settimeout(exchange.left())
        wrapped = context.wrap_socket(sock, server_hostname=host)
    except TimeoutError:
        sock.close()
        raise exchange.timed_out() from None
    except (OSError, ValueError) as error:
        sock.close()
        raise HttpError(tls_error(error, host), Category.TLS_ERROR) from None
    except BaseException:
        sock.close()
        raise
    exchange.tls_ms = add_ms(exchange.tls_ms, began)
    return wrapped, describe_tls(wrapped)


def tls_error(error: Exception, host: str) -> str:
    """One sentence for a failed handshake. Codes are OpenSSL's X509_V_ERR_*."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return {
            9: f"the certificate of {host} is not valid yet",
            10: f"the certificate of {host} has expired",
            18: f"the certificate of {host} is self-signed",
            19: f"the certificate of {host} is signed by an authority that is not trusted (self-signed)",
            20: f"the certificate of {host} is signed by an authority that is not trusted",
            21: f"the certificate of {host} is signed by an authority that is not trusted",
            62: f"the certificate is for another host than {host}",
            64: f"the certificate is for another address than {host}",
        }.get(error.verify_code, f"the certificate of {host} is not valid")
    reason = getattr(error, "reason", "") or ""
    if "WRONG_VERSION_NUMBER" in reason or "HTTP_REQUEST" in reason or "RECORD_LAYER" in reason:
        return f"{host} does not speak TLS on this port"
    if "ALERT" in reason or "VERSION" in reason or "CIPHER" in reason:
        return f"{host} refused the TLS handshake"
    return f"{host} broke off the TLS handshake"


def describe_tls(sock: ssl.SSLSocket) -> TlsInfo:
    """Read version, cipher and the server's certificate from a finished handshake."""
    cipher = sock.cipher()
    der = sock.getpeercert(binary_form=True)
    if der is None:
        raise HttpError("the server showed no certificate", Category.TLS_ERROR)
    try:
        certificate = x509.load_der_x509_certificate(der)
        issuer, subject = _common_name(certificate.issuer), _common_name(certificate.subject)
        not_after = certificate.not_valid_after_utc
    except ValueError:
        sock.close()
        raise HttpError("the server's certificate cannot be read", Category.TLS_ERROR) from None
    return TlsInfo(sock.version() or "", cipher[0] if cipher else "", not_after, issuer, subject)


def _common_name(name: x509.Name) -> str:
    for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        found = name.get_attributes_for_oid(oid)
        if found:
            return str(found[0].value)[:200]
    return name.rfc4514_string()[:200]
