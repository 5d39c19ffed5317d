"""The contract of every vendor. A vendor's test class inherits it and supplies how its vendor answers."""

from __future__ import annotations

import contextlib
import copy
import json
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import pytest
import requests
import responses

import providers
from providers import oauth
from providers.base import NotConfigured, ProbeContext, ProbeOutcome
from providers.runner import run
from wsmon.http import Client
from wsmon.vocabulary import Category, Outcome

FIXTURES = Path(__file__).parent.parent / "fixtures"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HTML = b"<!DOCTYPE html><html><head><title>Proxy</title></head><body>Access denied</body></html>"
GARBAGE = [b"", b"\xff\xfe\x00", b"null", b"42", b'"ok"', b'{"cut":', b"ok", b"[" * 100_000]
ODD_VALUES: list[Any] = [
    None,
    "",
    [],
    {},
    [None],
    0,
    -1,
    1e999,
    10**30,
    True,
    "x" * 5000,
    "\x00\ud800",
    {"a": {"b": []}},
]
METHODS = ("GET", "POST", "PROPFIND")


@dataclass(frozen=True)
class Reply:
    """One answer of the stand-in vendor: a fixture's name, bytes, or any JSON value."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raises: Exception | None = None

    def content(self, vendor: str) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        if isinstance(self.body, str):
            return fixture(vendor, self.body)
        return json.dumps(self.body).encode()


def fixture(vendor: str, name: str) -> bytes:
    """A recorded answer; ``.json`` unless the name says otherwise."""
    path = FIXTURES / vendor / name
    return (path if path.suffix else path.with_suffix(".json")).read_bytes()


def planted(prefix: str = "") -> str:
    """A secret that is easy to find again."""
    return f"{prefix}planted-Secret+0123456789/xyz"


class World:
    """A stand-in vendor under ``responses``: routes by method and URL, and what it was asked."""

    def __init__(self, vendor: str, routes: Sequence[tuple[str, str, Reply]]) -> None:
        self.vendor = vendor
        self.routes = list(routes)
        self.asked: list[requests.PreparedRequest] = []
        self.echo = False

    @contextlib.contextmanager
    def running(self) -> Iterator[World]:
        with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
            for method in METHODS:
                mock.add_callback(method, re.compile(".*"), self._answer, content_type=None)
            yield self

    def _answer(self, request: requests.PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(request)
        for method, url, reply in self.routes:
            if method == request.method and re.search(url, request.url or ""):
                return self._reply(reply, request)
        raise AssertionError(f"nobody expects {request.method} {request.url}")

    def _reply(self, reply: Reply, request: requests.PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        if reply.raises:
            raise reply.raises
        body = reply.content(self.vendor)
        if self.echo:
            body = _with_every_text(body, _heard(request))
        headers = {"Content-Type": "text/html" if body == HTML else "application/json"} | dict(reply.headers)
        return reply.status, headers, body


def _heard(request: requests.PreparedRequest) -> str:
    """All that a careless server could repeat of a request."""
    body = request.body.decode("utf-8", "replace") if isinstance(request.body, bytes) else request.body or ""
    return f"{dict(request.headers)} {request.url} {unquote(request.url or '')} {body}"


def _with_every_text(body: bytes, text: str) -> bytes:
    """A JSON body with ``text`` appended to every string that is not a code or a type."""

    def walk(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: walk(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [walk(each, key) for each in value]
        keep = key in {"object", "kind", "status", "type", "code", "name", "reason", "access_token"}
        return f"{value} {text}" if isinstance(value, str) and not keep else value

    try:
        return json.dumps(walk(json.loads(body))).encode()
    except ValueError:
        return body + text.encode()


class VendorContract:
    """What every vendor must do. ``routes`` is the vendor in good health; the rest are its complaints."""

    slug: ClassVar[str]
    variables: ClassVar[dict[str, str]]
    connectivity_variables: ClassVar[dict[str, str]] = {}
    """What connectivity cannot do without (no secret)."""
    routes: ClassVar[list[tuple[str, str, Reply]]]
    anonymous: ClassVar[Reply]
    refused: ClassVar[Reply]
    forbidden: ClassVar[Reply | None]
    limited: ClassVar[Reply]
    always: ClassVar[str] = r"(?!)"
    """URLs that go on answering well (a token endpoint) while the API misbehaves."""
    speaking_kinds: ClassVar[tuple[str, ...]] = ("authentication", "functionality")
    """The kinds with a credential that go over HTTP."""
    missing: ClassVar[dict[str, tuple[str, ...]]]
    """Kind -> the variables named when none is set."""
    tokens_of_others: ClassVar[tuple[str, ...]] = ()
    """Secrets that the vendor itself hands out."""

    @pytest.fixture(autouse=True)
    def _no_kept_token(self) -> Iterator[None]:
        oauth._kept.clear()
        yield
        oauth._kept.clear()

    def probe(
        self,
        kind: str,
        world: World,
        variables: Mapping[str, str] | None = None,
        **options: Any,
    ) -> ProbeOutcome:
        """Run one kind against a stand-in, through the runner as monitoring does."""
        provider = providers.get(self.slug)
        context = ProbeContext(
            http=Client(),
            timeout=5,
            now=NOW,
            variables=self.variables if variables is None else variables,
            options=provider.kinds[kind].options(**options),
        )
        with world.running():
            return run(provider, kind, context)

    def healthy_world(self) -> World:
        return World(self.slug, self.routes)

    def world(self, reply: Reply) -> World:
        """A world in which everything is answered alike, token endpoints aside."""
        kept = [route for route in self.routes if re.search(self.always, route[1])]
        return World(self.slug, [*kept, *((method, ".*", reply) for method in METHODS)])

    def every(self, reply: Reply) -> Iterator[tuple[str, ProbeOutcome]]:
        for kind in ("connectivity", *self.speaking_kinds):
            yield kind, self.probe(kind, self.world(reply))

    def secrets(self) -> list[str]:
        provider = providers.get(self.slug)
        return [
            self.variables[each.name] for each in provider.variables if each.secret and each.name in self.variables
        ] + list(self.tokens_of_others)

    def assert_no_secret(self, text: str) -> None:
        decoded = text + " ".join(_decoded(text))
        for secret in self.secrets():
            assert secret not in decoded
            assert secret[-20:] not in decoded

    # Connectivity

    def test_its_own_refusal_without_a_credential_means_reachable(self) -> None:
        outcome = self.probe("connectivity", self.world(self.anonymous), self.connectivity_variables)
        assert outcome.outcome == Outcome.HEALTHY, outcome.message
        assert outcome.category is None
        assert outcome.http_status == self.anonymous.status
        assert "reachable" in outcome.message

    def test_connectivity_sends_no_credential(self) -> None:
        world = self.world(self.anonymous)
        self.probe("connectivity", world)
        assert world.asked
        for request in world.asked:
            self.assert_no_secret(_heard(request))
            assert "Authorization" not in request.headers

    def test_a_rate_limit_still_means_reachable(self) -> None:
        outcome = self.probe("connectivity", self.world(replace(self.limited, headers={"Retry-After": "7"})))
        assert (outcome.outcome, outcome.category) == (Outcome.HEALTHY, Category.RATE_LIMITED)

    # What goes wrong in the same way everywhere

    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    def test_a_server_error_is_critical(self, status: int) -> None:
        for kind, outcome in self.every(Reply(status, HTML)):
            assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.SERVER_ERROR), kind
            assert outcome.http_status == status

    @pytest.mark.parametrize("status", [200, 302, 401, 403, 404])
    def test_the_page_of_a_proxy_is_not_the_vendor(self, status: int) -> None:
        for kind, outcome in self.every(Reply(status, HTML)):
            assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.VALIDATION_ERROR), kind
            assert "not one of" in outcome.message

    @pytest.mark.parametrize("garbage", GARBAGE, ids=lambda body: repr(body[:10]))
    def test_garbage_is_not_the_vendor(self, garbage: bytes) -> None:
        for kind, outcome in self.every(Reply(200, garbage)):
            assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.VALIDATION_ERROR), kind

    def test_json_of_another_shape_is_no_proof_that_a_credential_works(self) -> None:
        bodies: tuple[Any, ...] = ({}, [], {"hello": "world"})
        for body in bodies:
            for kind in self.speaking_kinds:
                outcome = self.probe(kind, self.world(Reply(200, body)))
                assert outcome.category == Category.VALIDATION_ERROR, (kind, body, outcome)

    def test_a_timeout_and_a_broken_connection_are_critical(self) -> None:
        for error, category in (
            (requests.ReadTimeout(), Category.TIMEOUT_ERROR),
            (requests.ConnectionError(), Category.NETWORK_ERROR),
            (requests.exceptions.SSLError(), Category.TLS_ERROR),
        ):
            for kind, outcome in self.every(Reply(raises=error)):
                assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, category), kind

    # What the vendor says of our credential

    def test_a_rate_limit_is_degraded_and_says_when_to_come_back(self) -> None:
        for kind in self.speaking_kinds:
            outcome = self.probe(kind, self.world(replace(self.limited, headers={"Retry-After": "7"})))
            assert (outcome.outcome, outcome.category) == (Outcome.DEGRADED, Category.RATE_LIMITED), kind
            assert outcome.details["retry_after"] == 7

    def test_a_refused_credential_is_our_error(self) -> None:
        for kind in self.speaking_kinds:
            outcome = self.probe(kind, self.world(self.refused))
            assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.AUTHENTICATION_ERROR), kind
            assert "refused the credential" in outcome.message

    def test_a_missing_permission_is_told_apart(self) -> None:
        if self.forbidden is None:
            pytest.skip("this vendor does not tell")
        outcome = self.probe(self.speaking_kinds[-1], self.world(self.forbidden))
        assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.AUTHENTICATION_ERROR)
        assert "lacks a permission" in outcome.message

    def test_absent_variables_are_named(self) -> None:
        for kind, names in self.missing.items():
            with pytest.raises(NotConfigured) as caught:
                self.probe(kind, self.healthy_world(), {})
            assert caught.value.variables == names, kind
            assert set(providers.get(self.slug).kinds[kind].needs) <= set(names)

    # In good health

    def test_all_is_well(self) -> None:
        for kind in self.speaking_kinds:
            world = self.healthy_world()
            outcome = self.probe(kind, world)
            assert (outcome.outcome, outcome.category) == (Outcome.HEALTHY, None), (kind, outcome.message)
            assert outcome.timings.total_ms is not None
            assert world.asked

    # Secrets and strange values

    def test_planted_secrets_never_come_back(self) -> None:
        replies = [self.anonymous, self.refused, self.limited, Reply(500, HTML), Reply(200, HTML)]
        replies += [self.forbidden] if self.forbidden else []
        worlds = [self.healthy_world(), *map(self.world, replies)]
        for world in worlds:
            world.echo = True
            for kind in ("connectivity", *self.speaking_kinds):
                self.assert_no_secret(_shown(self.probe(kind, world)))

    def test_secrets_in_exceptions_never_come_back(self) -> None:
        told = " and ".join([planted(), *self.secrets()])
        for error in (RuntimeError(told), requests.ConnectionError(told), requests.ReadTimeout(told), OSError(told)):
            for kind in ("connectivity", *self.speaking_kinds):
                outcome = self.probe(kind, self.world(Reply(raises=error)))
                assert outcome.outcome in {Outcome.CRITICAL, Outcome.ERROR}
                self.assert_no_secret(_shown(outcome))
                assert "planted" not in _shown(outcome)

    def test_secrets_in_base_urls_never_come_back(self) -> None:
        bases = dict.fromkeys(providers.get(self.slug).base_urls, f"https://me:{planted()[:20]}@proxy.test/x")
        for reply in (Reply(401, HTML), Reply(500, HTML), Reply(raises=requests.ConnectionError())):
            world = World(self.slug, [(method, ".*", reply) for method in METHODS])
            for kind in ("connectivity", *self.speaking_kinds):
                outcome = self.probe(kind, world, self.variables | bases)
                assert outcome.outcome == Outcome.CRITICAL
                assert "planted" not in _shown(outcome)

    def test_strange_values_anywhere_do_not_break_the_probe(self) -> None:
        for number, (method, url, reply) in enumerate(self.routes):
            if re.search(self.always, url) or not reply.content(self.slug):
                continue
            for body in _distorted(json.loads(reply.content(self.slug))):
                routes = list(self.routes)
                routes[number] = (method, url, replace(reply, body=json.dumps(body).encode()))
                for kind in self.speaking_kinds:
                    outcome = self.probe(kind, World(self.slug, routes))
                    assert outcome.category != Category.UNKNOWN_ERROR, (url, body, outcome.message)
                    assert_storable(outcome)


def assert_storable(outcome: ProbeOutcome) -> None:
    """PostgreSQL takes neither NaN nor NUL nor half a surrogate pair, and nobody wants to read a novel."""
    text = json.dumps(dict(outcome.details), allow_nan=False, ensure_ascii=False)
    text.encode()
    assert "\\u0000" not in text
    assert len(text) < 10_000
    assert len(outcome.message) < 500
    outcome.message.encode()


def _distorted(value: Any) -> Iterator[Any]:
    """``value`` with each of its parts in turn replaced by odd ones."""
    yield from ODD_VALUES
    for path in _paths(value):
        for odd in ODD_VALUES:
            changed = copy.deepcopy(value)
            holder = changed
            for step in path[:-1]:
                holder = holder[step]
            holder[path[-1]] = odd
            yield changed


def _paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield (*at, step)
        yield from _paths(inner, (*at, step))


def _shown(outcome: ProbeOutcome) -> str:
    return f"{outcome.message} {json.dumps(dict(outcome.details), ensure_ascii=False)}"


def _decoded(text: str) -> Iterator[str]:
    """Whatever in ``text`` is base64, in clear."""
    for piece in re.findall(r"[A-Za-z0-9+/=_-]{12,}", text):
        with contextlib.suppress(ValueError):
            padded = piece + "=" * (-len(piece) % 4)
            yield b64decode(padded.replace("-", "+").replace("_", "/")).decode("utf-8", "replace")
