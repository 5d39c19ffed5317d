"""The guard, names, sockets and deadlines below the HTTP client."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.servers import LOOPBACK, Authority, Server, answering, wait_until
from wsmon import net
from wsmon.http import Client
from wsmon.net import BlockedAddress, Exchange, Guard, HttpError, TlsInfo
from wsmon.vocabulary import Category

Lookup = Callable[..., list[Any]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Name -> addresses; a callable is asked each time. Every lookup is counted under "lookups"."""
    table: dict[str, Any] = {"lookups": 0}
    real = socket.getaddrinfo

    def fake(host: str, *args: Any, **options: Any) -> list[Any]:
        if host not in table:
            return list(real(host, *args, **options))
        table["lookups"] += 1
        found = table[host]
        addresses = found() if callable(found) else found
        return [(socket.AF_INET6 if ":" in one else socket.AF_INET, 1, 6, "", (one, 0)) for one in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", fake)
    return table


# -- the guard ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("192.168.1.1", "private"),
        ("fd00::1", "private"),
        ("fec0::1", "reserved"),  # site-local, RFC 3879
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%lo", "link-local"),
        ("100.64.0.1", "carrier-grade NAT"),
        ("100.127.255.255", "carrier-grade NAT"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("240.0.0.1", "reserved"),
        ("192.0.2.1", "private"),
        ("198.18.0.1", "private"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:169.254.169.254", "link-local"),
        ("::127.0.0.1", "translated IPv4"),
        ("64:ff9b::a9fe:a9fe", "translated IPv4"),
        ("64:ff9b::808:808", "translated IPv4"),
        ("2002:7f00:1::", "translated IPv4"),
        ("2001:0:1::1", "translated IPv4"),
    ],
)
def test_special_addresses_are_refused(address: str, why: str) -> None:
    assert Guard().refuses(address) == why


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "100.128.0.1", "172.32.0.1", "2606:4700::1", "::ffff:8.8.8.8"]
)
def test_public_addresses_are_fine(address: str) -> None:
    assert Guard().refuses(address) is None


@pytest.mark.parametrize(
    ("allowed", "address"),
    [
        ("10.0.0.0/8", "10.9.9.9"),
        ("127.0.0.1", "127.0.0.1"),
        (" 127.0.0.0/8 ", "::ffff:127.0.0.1"),
        ("fd00::/8", "fd12::1"),
        ("64:ff9b::/96", "64:ff9b::808:808"),
        ("192.168.1.77/24", "192.168.1.1"),
    ],
)
def test_listed_networks_are_fine(allowed: str, address: str) -> None:
    assert Guard([allowed]).refuses(address) is None


@pytest.mark.parametrize(
    ("allowed", "address"),
    [
        ("10.0.0.0/8", "127.0.0.1"),
        ("127.0.0.0/8", "::1"),
        ("64:ff9b::/96", "64:ff9b::a9fe:a9fe"),
        ("2002::/16", "2002:a00:1::"),
    ],
)
def test_what_is_listed_opens_nothing_else(allowed: str, address: str) -> None:
    assert Guard([allowed]).refuses(address) is not None


@pytest.mark.parametrize("text", ["10.0.0.0/99", "localhost", "", "10.0.0.0-10.0.0.9"])
def test_a_bad_network_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="WSMON_ALLOW_PRIVATE_TARGETS"):
        Guard([text])


@settings(deadline=None)
@given(st.ip_addresses())
def test_whatever_is_not_global_is_refused(address: Any) -> None:
    if not address.is_global or address.is_multicast:
        assert Guard().refuses(str(address)) is not None


def test_of_mixed_addresses_only_the_fine_ones_are_used() -> None:
    assert Guard().check("h", ["10.0.0.1", "8.8.8.8", "::1"]) == ["8.8.8.8"]
    with pytest.raises(BlockedAddress) as caught:
        Guard().check("db.internal", ["10.0.0.1", "::1"])
    assert caught.value.ours
    assert caught.value.category is Category.CONFIGURATION_ERROR
    assert "db.internal resolves to 10.0.0.1, a private address" in caught.value.message
    assert "WSMON_ALLOW_PRIVATE_TARGETS" in caught.value.message


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "017700000001", "localhost"])
def test_unusual_spellings_of_loopback_are_refused(host: str) -> None:
    with pytest.raises(BlockedAddress):
        Client().get(f"http://{host}:1/", timeout=2)


# -- names --------------------------------------------------------------------------------------------


def test_a_name_that_resolves_to_a_private_address_is_refused(names: dict[str, Any]) -> None:
    names["intranet.example"] = ["10.0.0.5"]
    with pytest.raises(BlockedAddress, match=r"intranet\.example resolves to 10\.0\.0\.5"):
        Client().get("http://intranet.example/", timeout=2)


def test_rebinding_does_not_help(names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first lookup is public, the second private: only the checked address is ever connected to."""
    answers = iter([["93.184.215.14"], ["127.0.0.1"], ["127.0.0.1"]])
    names["rebind.example"] = lambda: next(answers)
    connected: list[str] = []

    def connect_to(address: str, port: int, timeout: float) -> socket.socket:
        connected.append(address)
        raise ConnectionRefusedError(111, "no")

    monkeypatch.setattr(net, "_connect_to", connect_to)
    client = Client()
    with pytest.raises(HttpError, match="refused the connection"):
        client.get("http://rebind.example/", timeout=2)
    assert names["lookups"] == 1
    with pytest.raises(BlockedAddress):
        client.get("http://rebind.example/", timeout=2)
    assert connected == ["93.184.215.14"]


def test_numeric_hosts_are_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> list[Any]:
        raise AssertionError("looked up")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    exchange = Exchange(1)
    assert net.resolve("192.0.2.7", exchange) == ["192.0.2.7"]
    assert net.resolve("2001:db8::1", exchange) == ["2001:db8::1"]
    assert exchange.dns_ms is None


def test_a_hanging_lookup_ends_with_the_deadline(names: dict[str, Any]) -> None:
    release = threading.Event()

    def hang() -> list[str]:
        release.wait(5)
        return ["8.8.8.8"]

    names["slow.example"] = hang
    with pytest.raises(HttpError) as caught:
        Client().get("http://slow.example/", timeout=0.2)
    release.set()
    assert caught.value.category is Category.DNS_ERROR
    assert caught.value.message == "timed out after 0.2 s looking up the name slow.example"
    assert caught.value.timings.dns_ms is not None
    assert wait_until(lambda: not net._lookups)


def test_the_same_lookup_is_shared(names: dict[str, Any]) -> None:
    release = threading.Event()

    def wait() -> list[str]:
        release.wait(5)
        return ["8.8.8.8"]

    names["busy.example"] = wait
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(net.resolve, "busy.example", Exchange(5)) for _ in range(4)]
        assert wait_until(lambda: "busy.example" in net._lookups)
        release.set()
        assert [one.result() for one in found] == [["8.8.8.8"]] * 4
    assert names["lookups"] <= 2


def test_hanging_lookups_are_bounded(names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net, "_LOOKUPS_AT_ONCE", 0)
    names["x.example"] = ["8.8.8.8"]
    with pytest.raises(HttpError) as caught:
        net.resolve("x.example", Exchange(1))
    assert caught.value.category is Category.DNS_ERROR


@pytest.mark.parametrize(
    ("error", "says", "ours"),
    [
        (socket.gaierror(socket.EAI_NONAME, "x"), "does not exist", False),
        (socket.gaierror(socket.EAI_AGAIN, "x"), "the name server did not answer", False),
        (socket.gaierror(socket.EAI_FAIL, "x"), "could not be looked up", False),
        (UnicodeError("label too long"), "not a valid host name", True),
    ],
)
def test_lookup_failures_are_told(names: dict[str, Any], error: Exception, says: str, ours: bool) -> None:
    def fail() -> list[str]:
        raise error

    names["bad.example"] = fail
    with pytest.raises(HttpError, match=says) as caught:
        net.resolve("bad.example", Exchange(1))
    assert caught.value.ours is ours


# -- connecting ---------------------------------------------------------------------------------------


def test_the_next_address_is_tried(names: dict[str, Any]) -> None:
    with Server(answering(), host="127.0.0.2") as server:
        names["two.example"] = ["127.0.0.1", "127.0.0.2"]
        response = Client(LOOPBACK).get(f"http://two.example:{server.port}/", timeout=2)
    assert response.status == 200
    assert response.timings.dns_ms is not None


def test_ipv6_works() -> None:
    try:
        server = Server(answering(), host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        assert Client(LOOPBACK).get(f"http://[::1]:{server.port}/", timeout=2).status == 200
    assert f"Host: [::1]:{server.port}".encode() in server.requests[0]


def test_a_connection_that_hangs_leaves_time_for_the_next(
    names: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    names["two.example"] = ["8.8.8.8", "8.8.4.4"]
    patience: list[float] = []

    def hang(address: str, port: int, timeout: float) -> socket.socket:
        patience.append(timeout)
        raise TimeoutError

    monkeypatch.setattr(net, "_connect_to", hang)
    with pytest.raises(HttpError) as caught:
        net.connect("two.example", 80, Guard(), Exchange(1))
    assert caught.value.category is Category.TIMEOUT_ERROR
    assert "connecting to two.example:80" in caught.value.message
    assert 0 < patience[0] <= 0.5


def test_failed_connections_leave_no_socket_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(HttpError):
            net.connect("127.0.0.1", 1, Guard(LOOPBACK), Exchange(1))
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EADDRNOTAVAIL, errno.EPERM])
def test_our_own_shortages_are_not_the_targets_fault(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> socket.socket:
        raise OSError(code, "x")

    monkeypatch.setattr(net, "_connect_to", fail)
    with pytest.raises(HttpError, match=errno.errorcode[code]) as caught:
        net.connect("8.8.8.8", 80, Guard(), Exchange(1))
    assert caught.value.ours


def test_a_changed_authority_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    first = Authority(tmp_path)
    with Server(answering(), tls=first.context("127.0.0.1")) as server:
        client = Client(LOOPBACK)
        assert client.get(server.url(), timeout=2, verify=str(file)).status == 200
        client.close()
        Authority(tmp_path)
        os.utime(file, (1, 1))
        with pytest.raises(HttpError, match="not trusted"):
            client.get(server.url(), timeout=2, verify=str(file))


def test_an_exhausted_deadline_names_its_phase() -> None:
    exchange = Exchange(0)
    exchange.phase = "doing a thing"
    with pytest.raises(HttpError, match=r"timed out after 0 s doing a thing"):
        exchange.left()


def test_days_left_are_counted_in_whole_days() -> None:
    def info(**delta: float) -> TlsInfo:
        return TlsInfo("TLSv1.3", "x", datetime.now(UTC) + timedelta(**delta), "i", "s")

    assert info(days=10, minutes=1).days_left == 10
    assert info(hours=5).days_left == 0
    assert info(hours=-1).days_left == -1
