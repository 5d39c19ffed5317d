"""The generic HTTP check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import providers
from providers import expectations
from providers.expectations import find, holds
from providers.http import HttpOptions
from tests.providers.generic import refusal, run
from tests.servers import Authority, Server, answering, endless, gzip_bomb, once, redirecting, refusing_port, sending
from wsmon.http import Client
from wsmon.vocabulary import Category, Outcome


def found(server: Server, **options: Any) -> Any:
    return run("http", {"url": server.url("/health")} | options)


def test_a_good_answer_is_healthy() -> None:
    with Server(answering(b'{"db": "up"}')) as server:
        outcome = found(server)
    assert outcome.outcome is Outcome.HEALTHY
    assert outcome.category is None
    assert outcome.message == "answered 200"
    assert outcome.http_status == 200
    assert outcome.timings.total_ms is not None
    assert outcome.details == {"bytes": 12}


@pytest.mark.parametrize(
    ("status", "expected", "category", "outcome"),
    [
        ("500 E", None, Category.SERVER_ERROR, Outcome.CRITICAL),
        ("503 E", ["2xx", 404], Category.SERVER_ERROR, Outcome.CRITICAL),
        ("404 E", None, Category.CLIENT_ERROR, Outcome.CRITICAL),
        ("401 E", None, Category.CLIENT_ERROR, Outcome.CRITICAL),
        ("429 E", None, Category.RATE_LIMITED, Outcome.DEGRADED),
        ("204 E", 200, Category.VALIDATION_ERROR, Outcome.CRITICAL),
        ("200 E", "3xx", Category.VALIDATION_ERROR, Outcome.CRITICAL),
        ("404 E", 404, None, Outcome.HEALTHY),
        ("204 E", [200, 204], None, Outcome.HEALTHY),
        ("418 E", "4XX", None, Outcome.HEALTHY),
    ],
)
def test_statuses_are_judged(status: str, expected: Any, category: Category | None, outcome: Outcome) -> None:
    with Server(answering(b"", status)) as server:
        result = found(server, **({"expect": {"status": expected}} if expected else {}))
    assert (result.outcome, result.category) == (outcome, category)
    assert status[:3] in result.message


def test_a_rate_limit_shows_when_to_come_back() -> None:
    with Server(answering(b"", "429 Too Many", {"Retry-After": "30"})) as server:
        assert found(server).details["retry_after"] == "30"


@pytest.mark.parametrize(("status", "says"), [("401 U", "refused our credential"), ("403 F", "lacks a permission")])
@pytest.mark.parametrize(
    "credential",
    [{"basic_auth": {"username": "u", "password": "hunter22"}}, {"headers": {"Authorization": "Bearer hunter22"}}],
)
def test_our_refused_credential_is_our_error(status: str, says: str, credential: dict[str, Any]) -> None:
    with Server(answering(b"no hunter22", status)) as server:
        outcome = found(server, **credential)
    assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.AUTHENTICATION_ERROR)
    assert says in outcome.message
    assert "hunter22" not in str(outcome)


@pytest.mark.parametrize(
    ("expect", "says"),
    [
        ({"body_contains": "ok"}, None),
        ({"body_contains": ["ok", "db"]}, None),
        ({"body_contains": ["ok", "cache"]}, "does not contain 'cache'"),
        ({"body_not_contains": "error"}, None),
        ({"body_not_contains": ["x", "db"]}, "contains 'db'"),
        ({"regex": r"n\W+\d+"}, None),
        ({"regex": "^nothing$"}, "does not match"),
        ({"json": {"$.db": "ok"}}, None),
        ({"json": {"$.db": "up"}}, "$.db is 'ok', expected 'up'"),
        ({"json": {"$.cache": "up"}}, "$.cache is missing"),
        ({"json": {"$.n": {"gte": 3, "lt": 5}}}, None),
        ({"json": {"$.n": {"gt": 4}}}, "$.n is 4, expected gt 4"),
        ({"json": {"$.list[0].a": 1, "$.list[-1].a": 2}}, None),
        ({"json": {"$['odd name']": None}}, None),
        ({"json": {"$.list": {"exists": False}}}, "exists, which it should not"),
        ({"header": {"content-type": "JSON", "X-Here": ""}}, None),
        ({"header": {"content-type": "html"}}, "does not contain 'html'"),
        ({"header": {"X-Missing": ""}}, "X-Missing is missing"),
    ],
)
def test_expectations_of_the_answer(expect: dict[str, Any], says: str | None) -> None:
    body = b'{"db": "ok", "n": 4, "list": [{"a": 1}, {"a": 2}], "odd name": null}'
    with Server(answering(body, headers={"Content-Type": "application/json", "X-Here": "1"})) as server:
        outcome = found(server, expect=expect)
    if says is None:
        assert outcome.outcome is Outcome.HEALTHY, outcome.message
    else:
        assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.VALIDATION_ERROR)
        assert says in outcome.message
        assert outcome.details["body"].startswith('{"db"')


@pytest.mark.parametrize("expect", [{"regex": "(a|aa)+$"}, {"json": {"$": {"matches": "(a|aa)+$"}}}])
def test_a_pattern_that_would_take_years_is_our_error(
    expect: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expectations, "PATTERN_SECONDS", 0.05)
    with Server(answering(b'"' + b"a" * 200 + b'!"')) as server:
        outcome = found(server, expect=expect)
    assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.CONFIGURATION_ERROR)
    assert "takes too long" in outcome.message


def test_garbage_instead_of_json_is_critical() -> None:
    with Server(answering(b"<html>Sign in</html>")) as server:
        outcome = found(server, expect={"json": {"$.db": "up"}})
    assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.VALIDATION_ERROR)
    assert "HTML page" in outcome.message


def test_a_failed_answer_shows_a_short_masked_sample() -> None:
    body = b"x" * 150 + b" token=sk_live" + b"_abcdefghijklmnop " + b"y" * 5000
    with Server(answering(body, "500 E")) as server:
        sample = found(server).details["body"]
    assert len(sample) <= 200
    assert "abcdefgh" not in sample
    with Server(answering(body)) as server:
        assert "body" not in found(server).details


def test_secrets_of_the_options_are_masked_everywhere() -> None:
    with Server(
        sending(b"HTTP/1.1 500 E\r\nContent-Length: 60\r\n\r\n" + b"hunter22 tok-en-99 q-secret-1".ljust(60))
    ) as server:
        outcome = run(
            "http",
            {
                "url": f"http://u:hunter22@127.0.0.1:{server.port}/?apikey=q-secret-1",
                "headers": {"X-Api-Key": "tok-en-99"},
            },
        )
        assert b"hunter22" not in server.requests[0]  # only as Basic
        assert b"apikey=q-secret-1" in server.requests[0]
    for secret in ("hunter22", "tok-en-99", "q-secret-1"):
        assert secret not in str(outcome)


def test_everything_given_is_sent() -> None:
    with Server(answering()) as server:
        found(server, method="put", headers={"X-A": "b"}, body="text")
        found(server, method="POST", json={"a": None}, basic_auth={"username": "u", "password": "p"})
    assert server.requests[0].startswith(b"PUT /health ")
    assert b"X-A: b" in server.requests[0]
    assert server.requests[0].endswith(b"\r\n\r\ntext")
    assert b"Authorization: Basic dTpw" in server.requests[1]
    assert server.requests[1].endswith(b'{"a":null}')


def test_redirects_stay_on_the_host_unless_told_otherwise() -> None:
    with Server(answering(b"target")) as other, Server(redirecting(other.url("/", host="localhost"))) as server:
        refused = found(server)
        followed = found(server, redirects="follow")
        expected = found(server, expect={"status": 302})
    assert refused.category is Category.VALIDATION_ERROR
    assert "another host" in refused.message
    assert followed.outcome is Outcome.HEALTHY
    assert followed.details["redirects"] == 1
    assert expected.outcome is Outcome.HEALTHY


@pytest.mark.parametrize(
    ("handler", "category"),
    [
        (once(b"garbage\r\n\r\n"), Category.VALIDATION_ERROR),
        (once(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), Category.NETWORK_ERROR),
        (redirecting("/health"), Category.VALIDATION_ERROR),
        (lambda peer: peer.hold(), Category.TIMEOUT_ERROR),
    ],
)
def test_a_target_that_misbehaves_is_critical(handler: Any, category: Category) -> None:
    with Server(handler) as server:
        outcome = run("http", {"url": server.url("/health")}, timeout=0.3)
    assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, category)
    assert outcome.timings.total_ms is not None


def test_a_refused_connection_is_critical() -> None:
    with refusing_port() as port:
        outcome = run("http", {"url": f"http://127.0.0.1:{port}/"})
    assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.NETWORK_ERROR)


def test_a_private_target_is_our_error() -> None:
    outcome = run("http", {"url": "http://169.254.169.254/latest/"}, client=Client())
    assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.CONFIGURATION_ERROR)
    assert "WSMON_ALLOW_PRIVATE_TARGETS" in outcome.message


@pytest.mark.parametrize("handler", [endless, sending(gzip_bomb(8))])
def test_a_huge_answer_is_cut_and_says_so(handler: Any) -> None:
    with Server(handler) as server:
        outcome = found(server, max_bytes=50_000)
    assert outcome.outcome is Outcome.HEALTHY
    assert outcome.details == {"bytes": 50_000, "truncated": True}


@pytest.mark.parametrize(("days", "least", "outcome"), [(9, 14, "degraded"), (9, 5, "healthy"), (9, 0, "healthy")])
def test_a_certificate_about_to_expire_is_degraded(tmp_path: Path, days: int, least: int, outcome: str) -> None:
    authority = Authority(tmp_path)
    with Server(answering(), tls=authority.context("127.0.0.1", days=days)) as server:
        result = found(server, verify=authority.file, tls_days_left=least)
    assert result.outcome == outcome
    assert result.details["tls_days_left"] == 9
    if outcome == "degraded":
        assert result.category is Category.TLS_ERROR
        assert "expires in 9 days" in result.message


def test_invalid_tls_is_critical(tmp_path: Path) -> None:
    with Server(answering(), tls=Authority(tmp_path).context("127.0.0.1")) as server:
        outcome = found(server)
    assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.TLS_ERROR)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "url"),
        ({"url": "example.com"}, "must be a URL"),
        ({"url": "ftp://example.com"}, "must be a URL"),
        ({"url": "http://h:99999/"}, "not a valid URL"),
        ({"url": "http://h/a b"}, "without spaces"),
        ({"url": "http://h/", "typo": 1}, "typo"),
        ({"url": "http://h/", "method": "FETCH"}, "method"),
        ({"url": "http://h/", "expect": {"status": "ok"}}, 'a class such as "2xx"'),
        ({"url": "http://h/", "expect": {"status": []}}, "at least one"),
        ({"url": "http://h/", "expect": {"status": True}}, "must be a status"),
        ({"url": "http://h/", "expect": {"regex": "("}}, "regular expression"),
        ({"url": "http://h/", "expect": {"json": {"db": 1}}}, "not a path"),
        ({"url": "http://h/", "expect": {"json": {"$.a b": 1}}}, "not understood"),
        ({"url": "http://h/", "expect": {"json": {"$.a": {"gte": "x"}}}}, "gte needs a number"),
        ({"url": "http://h/", "expect": {"json": {"$.a": {"gte": 1, "nope": 1}}}}, "not an operator"),
        ({"url": "http://h/", "expect": {"json": {"$.a": {"in": 1}}}}, "in needs a list"),
        ({"url": "http://h/", "expect": {"json": {"$.a": {"exists": 1}}}}, "true or false"),
        ({"url": "http://h/", "expect": {"json": {"$.a": {"matches": "["}}}}, "regular expression"),
        ({"url": "http://h/", "body": "a", "json": {}}, "exclude each other"),
        ({"url": "http://h/", "max_bytes": 0}, "max_bytes"),
        ({"url": "http://h/", "redirects": "always"}, "redirects"),
        ({"url": "http://h/", "tls_days_left": -1}, "tls_days_left"),
    ],
)
def test_bad_options_are_refused_with_the_key(options: dict[str, Any], says: str) -> None:
    assert says in refusal("http", options)


def test_refusals_do_not_quote_the_value() -> None:
    assert "hunter22" not in refusal("http", {"url": "ftp://u:hunter22@h/"})


def test_references_are_accepted_where_they_will_be_resolved() -> None:
    assert HttpOptions.model_validate({"url": "env:HEALTH_URL"}).url == "env:HEALTH_URL"


@pytest.mark.parametrize(
    ("value", "condition", "fine"),
    [
        (True, 1, False),
        (1, True, False),
        (1, 1.0, True),
        ("a", {"in": ["a", "b"]}, True),
        (True, {"in": [1]}, False),
        ("abc", {"contains": "b"}, True),
        (["x"], {"contains": "x"}, True),
        (5, {"contains": 5}, False),
        ("abc", {"matches": "^a"}, True),
        ("5", {"gte": 1}, False),
        (True, {"gte": 1}, False),
        (5, {"ne": 6}, True),
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, {}, False),
        (None, None, True),
    ],
)
def test_conditions(value: Any, condition: Any, fine: bool) -> None:
    assert (holds(True, value, condition) is None) is fine


def test_paths_that_lead_nowhere_find_nothing() -> None:
    for path in ("$.a.b", "$.a[0]", "$[0]", "$.x", "$.list[5]", "$.list[-3]", "$.list.a"):
        assert find({"a": 1, "list": [1, 2]}, path) == (False, None)
    assert find([1], "$") == (True, [1])


def test_it_is_offered_to_every_provider() -> None:
    assert "http" in providers.kinds(providers.get("stripe"))
