"""The services section: every field wrong in every way a person gets it wrong, and what comes back out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import providers
from monitoring.config import services_section
from monitoring.models import Check, Service
from monitoring.schema import CheckEntry, read_check, read_service
from tests.monitoring.factories import make_check, make_service
from wsmon import redact, secrets
from wsmon.config import ConfigError, apply_file, export_text
from wsmon.models import AuditEntry

SECRET = "planted-Secret-4711-value"
SITE = """services:
  our-site:
    provider: http
    checks:
      - kind: http
        name: health
        url: http://127.0.0.1:9001/health
"""


def refused(text: str, tmp_path: Path) -> list[str]:
    """Apply a bad file to a database that has something in it; return the problems."""
    path = tmp_path / "wsmon.yaml"
    path.write_text(text)
    make_check(make_service("present"), name="present")
    before = (list(Service.objects.values()), list(Check.objects.values()))
    with pytest.raises(ConfigError) as caught:
        apply_file(path, prune=True)
    assert (list(Service.objects.values()), list(Check.objects.values())) == before
    assert not AuditEntry.objects.exists()
    return [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]


def check_line(line: str) -> str:
    """The file with one more line in its check (line 8)."""
    return f"{SITE}        {line}\n"


def service_line(line: str) -> str:
    """The file with one more line in its service (line 4)."""
    return SITE.replace("    checks:", f"    {line}\n    checks:")


CHECK = "wsmon.yaml:8: services.our-site.checks[0]"
CHECK_LINES = [
    ("intervall: 5s", f'{CHECK}.intervall: unknown key; did you mean "interval"?'),
    ("zzz: 5s", f"{CHECK}.zzz: unknown key"),
    ("interval: 5 parsecs", f'{CHECK}.interval: "5 parsecs" is not a duration such as 250ms, 5s, 2m, 1h'),
    ('interval: "5"', f'{CHECK}.interval: "5" is not a duration'),
    ("interval: on", f"{CHECK}.interval: true is not a duration"),
    ("interval: 1:30", f'{CHECK}.interval: "1:30" is not a duration'),
    ("interval: [5s]", f"{CHECK}.interval: "),
    ("interval: {a: 5s}", f"{CHECK}.interval: "),
    ("interval:", f"{CHECK}.interval: has no value"),
    ("interval: -5s", f'{CHECK}.interval: "-5s" is not a duration'),
    ("interval: -5", f"{CHECK}.interval: -5 is not a duration"),
    ("interval: 0s", f"{CHECK}.interval: 0s is not between 1s and 1d"),
    ("interval: 999ms", f"{CHECK}.interval: 999ms is not between 1s and 1d"),
    ("interval: 2d", f"{CHECK}.interval: 2d is not between 1s and 1d"),
    ("timeout: 1ms", f"{CHECK}.timeout: 1ms is not between 100ms and 2m"),
    ("timeout: 5m", f"{CHECK}.timeout: 5m is not between 100ms and 2m"),
    ("timeout: yes", f"{CHECK}.timeout: true is not a duration"),
    ("timeout: 31s", f"{CHECK}.timeout: 31s is longer than this kind's default interval, 30s"),
    ("timeout: soon", f'{CHECK}.timeout: "soon" is not a duration'),
    ("degraded_over: 10s", f"{CHECK}.degraded_over: 10s is not shorter than the timeout, 5s"),
    ("degraded_over: 0s", f"{CHECK}.degraded_over: 0s is not between 1ms and 2m"),
    ("degraded_over: slow", f'{CHECK}.degraded_over: "slow" is not a duration'),
    ("confirm_down: 0", f"{CHECK}.confirm_down: 0 must be at least 1"),
    ("confirm_down: 21", f"{CHECK}.confirm_down: 21 must be at most 20"),
    ("confirm_down: two", f'{CHECK}.confirm_down: "two" is not a whole number'),
    ('confirm_down: "2"', f'{CHECK}.confirm_down: "2" is not a whole number'),
    ("confirm_down: true", f"{CHECK}.confirm_down: true is not a whole number"),
    ("confirm_down: 1.5", f"{CHECK}.confirm_down: 1.5 is not a whole number"),
    ("confirm_up: 0", f"{CHECK}.confirm_up: 0 must be at least 1"),
    ("confirm_up: []", f"{CHECK}.confirm_up: a list is not a whole number"),
    ("renamed_from: a b", f'{CHECK}.renamed_from: "a b" is not a name'),
    ("renamed_from: 5", f"{CHECK}.renamed_from: 5 is not text: put it in quotes"),
    ("method: GOT", f'{CHECK}.method: "GOT" is not one of GET'),
    ("method: 5", f"{CHECK}.method: "),
    ("body: {a: 1}", f"{CHECK}.body: a mapping is not text"),
    ("max_bytes: true", f"{CHECK}.max_bytes: true is not a whole number"),
    ("max_bytes: 0", f"{CHECK}.max_bytes: 0 must be at least 1"),
    ("max_bytes: 1 MB", f'{CHECK}.max_bytes: "1 MB" is not a whole number'),
    ("redirects: maybe", f"{CHECK}.redirects: "),
    ("tls_days_left: -1", f"{CHECK}.tls_days_left: -1 must be at least 0"),
    ("headers: [a]", f"{CHECK}.headers: a list stands where a mapping"),
    ("headers: {X: 5}", f"{CHECK}.headers.X: 5 is not text: put it in quotes"),
    ("headers: {X: env:NOT_SET_ANYWHERE}", f'{CHECK}.headers.X: "env:NOT_SET_ANYWHERE" leads nowhere'),
    ("headers: {X: file:/nowhere/at/all}", f'{CHECK}.headers.X: "file:/nowhere/at/all" leads nowhere'),
    ("headers: {X: 'env:'}", f'{CHECK}.headers.X: "env:" leads nowhere'),
    (f"headers: {{Authorization: Bearer {SECRET}}}", f"{CHECK}.headers.Authorization: a secret does not belong here"),
    (f"headers: {{X-Api-Key: {SECRET}}}", f"{CHECK}.headers.X-Api-Key: a secret does not belong here"),
    (f"headers: {{Cookie: {SECRET}}}", f"{CHECK}.headers.Cookie: a secret does not belong here"),
    (f"basic_auth: {{username: a, password: {SECRET}}}", f"{CHECK}.basic_auth.password: a secret does not belong"),
    (f"json: {{api_key: {SECRET}}}", f"{CHECK}.json.api_key: a secret does not belong here"),
    ("body: sk_live_" + "a1b2c3d4e5f6", f"{CHECK}.body: holds a secret"),
    ("expect: ok", f'{CHECK}.expect: "ok" stands where a mapping'),
    ("expect: {status: abc}", f"{CHECK}.expect.status: "),
    ("expect: {status: [200, 999]}", f"{CHECK}.expect.status: must be a status"),
    ("expect: {status: []}", f"{CHECK}.expect.status: "),
    ("expect: {statsu: 200}", f'{CHECK}.expect.statsu: unknown key; did you mean "status"?'),
    ('expect: {regex: "("}', f'{CHECK}.expect.regex: "(" is not a valid regular expression'),
    ("expect: {regex: 5}", f"{CHECK}.expect.regex: 5 is not text"),
    ("expect: {body_contains: 5}", f"{CHECK}.expect.body_contains"),
    ('expect: {json: {"db": up}}', f"{CHECK}.expect.json"),
    ('expect: {json: {"$.a[": up}}', f"{CHECK}.expect.json"),
    ("expect: {json: up}", f"{CHECK}.expect.json: "),
]
SERVICE_LINES = [
    ("criticallity: high", 'criticallity: unknown key; did you mean "criticality"?'),
    ("criticality: hgih", 'criticality: "hgih" is not a criticality; did you mean "high"?'),
    ("criticality: Critical", 'criticality: "Critical" is not a criticality; did you mean "critical"?'),
    ("criticality: 1", "criticality: 1 is not text"),
    ("criticality: [high]", "criticality: a list is not text"),
    ("criticality:", "criticality: has no value"),
    ("name: 5", "name: 5 is not text: put it in quotes"),
    ("name: " + "x" * 101, "must be one line of at most 100 characters"),
    ('name: "a\\nb"', "must be one line of at most 100 characters"),
    ("paused: maybe", 'paused: "maybe" is neither true nor false'),
    ("paused: 1", "paused: 1 is neither true nor false"),
    ("renamed_from: [x]", "renamed_from: a list is not text"),
    ("renamed_from: a b", 'renamed_from: "a b" is not a name'),
    ("breaker: rolling", 'breaker: "rolling" stands where a mapping'),
    ("breaker: {policy: rollin}", 'breaker.policy: "rollin" is not a policy; did you mean "rolling"?'),
    ("breaker: {policy: 5}", "breaker.policy: 5 is not a policy"),
    ("breaker: {failure_threshold: 5}", "breaker.failure_threshold: unknown key"),
    ("breaker: {policy: counting, window: 5s}", "breaker.window: unknown key"),
    ("breaker: {error_threshold: 1.5}", "breaker.error_threshold: 1.5 must be at most 1"),
    ("breaker: {error_threshold: 0}", "breaker.error_threshold: 0 must be more than 0"),
    ("breaker: {error_threshold: 50%}", 'breaker.error_threshold: "50%" is not a number'),
    ("breaker: {min_volume: 0}", "breaker.min_volume: 0 must be at least 1"),
    ("breaker: {min_volume: yes}", "breaker.min_volume: true is not a whole number"),
    ("breaker: {window: 5}", None),
    ("breaker: {window: five}", 'breaker.window: "five" is not a duration'),
    ("breaker: {recovery_timeout: on}", "breaker.recovery_timeout: true is not a duration"),
    ("breaker: {recovery_max: never}", 'breaker.recovery_max: "never" is not a duration'),
    ("breaker: {trials: 0}", "breaker.trials: 0 must be at least 1"),
    ("breaker: {slow_over: 0s}", "breaker.slow_over: 0s is not between"),
    ("breaker: {ignore_status: 404}", "breaker.ignore_status: 404"),
    ("breaker: {ignore_status: [99]}", "breaker.ignore_status[0]: 99 must be at least 100"),
    ("breaker: {ignore_status: [404, 402], slow_over: 2s, trials: 3, recovery_max: 10m}", None),
    ("breaker: {policy: counting, slow_over: 500ms, success_threshold: 3}", None),
    ("breaker: {policy: counting, failure_threshold: 0}", "breaker.failure_threshold: 0 must be at least 1"),
    ("breaker: {policy: counting, success_threshold: x}", 'breaker.success_threshold: "x" is not a whole number'),
    ("credentials: env:X", 'credentials: "env:X" stands where a mapping'),
    ("credentials: {STRIPE_KEY: env:PATH}", "credentials.STRIPE_KEY: http reads no such variable"),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("line", "complaint"), CHECK_LINES)
def test_it_refuses_a_wrong_check_naming_line_and_key(line: str, complaint: str, tmp_path: Path) -> None:
    (problem,) = refused(check_line(line), tmp_path)

    assert problem.startswith(complaint)
    assert SECRET not in problem


@pytest.mark.django_db
@pytest.mark.parametrize(("line", "complaint"), [row for row in SERVICE_LINES if row[1]])
def test_it_refuses_a_wrong_service_naming_line_and_key(line: str, complaint: str, tmp_path: Path) -> None:
    (problem,) = refused(service_line(line), tmp_path)

    assert problem.startswith("wsmon.yaml:4: services.our-site")
    assert complaint in problem


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "wsmon.yaml: is empty: it needs at least `services:`"),
        ("# only a comment\n", "wsmon.yaml: is empty"),
        ("- services\n", "wsmon.yaml: a list stands where a mapping (key: value) belongs"),
        ("services\n", 'wsmon.yaml: "services" stands where a mapping'),
        ("services:\n", "wsmon.yaml:1: services: nothing stands where a mapping"),
        ("services: [stripe]\n", "wsmon.yaml:1: services: a list stands where a mapping"),
        ("servces: {}\n", 'wsmon.yaml:1: servces: unknown key; did you mean "services"'),
        ("services:\n  stripe:\n", "wsmon.yaml:2: services.stripe: has no value; write {} for the defaults"),
        ("services:\n  stripe: [x]\n", "wsmon.yaml:2: services.stripe: a list stands where a mapping"),
        ("services:\n  stripe: critical\n", 'wsmon.yaml:2: services.stripe: "critical" stands where a mapping'),
        ("services:\n  strpe: {}\n", 'wsmon.yaml:2: services.strpe: "strpe" is not a provider, so `provider` must'),
        ("services:\n  a: {provider: htp}\n", 'wsmon.yaml:2: services.a.provider: "htp" is not a provider; did you'),
        ("services:\n  a: {provider: base}\n", 'wsmon.yaml:2: services.a.provider: "base" is not a provider'),
        ("services:\n  a: {provider: 5}\n", "wsmon.yaml:2: services.a.provider: 5 is not text"),
        ("services:\n  our site: {provider: stripe}\n", 'services.our site: "our site" is not a name'),
        ("services:\n  " + "x" * 61 + ": {provider: stripe}\n", "is not a name"),
        ("services:\n  ../etc: {provider: stripe}\n", "is not a name"),
        ("services:\n  a: {provider: http}\n", "wsmon.yaml:2: services.a.checks: is missing: http has no checks"),
        ("services:\n  stripe:\n    checks: connectivity\n", 'wsmon.yaml:3: services.stripe.checks: "connectivity"'),
        ("services:\n  stripe:\n    checks:\n", "wsmon.yaml:3: services.stripe.checks: has no value"),
        ("services:\n  stripe:\n    checks: {kind: x}\n", "services.stripe.checks: a mapping stands where a list"),
        ("services:\n  stripe:\n    checks:\n    - connectivity\n", "wsmon.yaml:4: services.stripe.checks[0]: "),
        ("services:\n  stripe:\n    checks:\n    -\n", "wsmon.yaml:4: services.stripe.checks[0]: nothing stands"),
        (
            "services:\n  stripe:\n    checks:\n    - interval: 5s\n",
            "wsmon.yaml:4: services.stripe.checks[0].kind: is m",
        ),
        (
            "services:\n  stripe:\n    checks:\n    - kind: conectivity\n",
            'checks[0].kind: "conectivity" is not a kind of check that stripe has; did you mean "connectivity"?',
        ),
        ("services:\n  stripe:\n    checks:\n    - {kind: 5}\n", "checks[0].kind: 5 is not text"),
        (
            "services:\n  stripe:\n    checks:\n    - {kind: connectivity}\n    - {kind: connectivity}\n",
            'wsmon.yaml:5: services.stripe.checks[1].kind: duplicate name "connectivity", as checks[0]',
        ),
        (
            "services:\n  stripe:\n    checks:\n    - {kind: connectivity, name: a}\n    - {kind: http, name: a, url: http://x}\n",
            'wsmon.yaml:5: services.stripe.checks[1].name: duplicate name "a"',
        ),
        ("services:\n  stripe:\n    checks:\n    - {kind: connectivity, url: x}\n", "checks[0].url: unknown key"),
        ("services:\n  stripe: {}\n  stripe: {}\n", "wsmon.yaml:3: services.stripe: this key stands here twice"),
        (SITE.replace("http://127", "127"), 'wsmon.yaml:7: services.our-site.checks[0].url: "127.0.0.1:9001/health"'),
        (SITE.replace("http://127", "ftp://127"), "must be a URL that begins with http"),
        (SITE.replace("http://127", "http://u:" + SECRET + "@127"), "checks[0].url: holds a secret"),
        (SITE.replace("/health\n", "/health?api_key=" + SECRET + "\n"), "checks[0].url: holds a secret"),
        (
            SITE.replace("        url: http://127.0.0.1:9001/health\n", ""),
            "wsmon.yaml:5: services.our-site.checks[0].url: is",
        ),
        (SITE.replace("name: health", "name: he alth"), 'wsmon.yaml:6: services.our-site.checks[0].name: "he alth"'),
        (
            SITE.replace("name: health", "name: on"),
            "wsmon.yaml:6: services.our-site.checks[0].name: true is",
        ),
        (
            "services:\n  stripe:\n    credentials: {STRIPE_KEY: env:PATH}\n",
            'STRIPE_KEY: stripe reads no such variable; did you mean "STRIPE_SECRET_KEY"',
        ),
        (
            "services:\n  stripe:\n    credentials: {STRIPE_SECRET_KEY: env:NOT_SET_ANYWHERE}\n",
            'wsmon.yaml:3: services.stripe.credentials.STRIPE_SECRET_KEY: "env:NOT_SET_ANYWHERE" leads nowhere',
        ),
        (
            f"services:\n  stripe:\n    credentials: {{STRIPE_SECRET_KEY: {SECRET}}}\n",
            "must be env:NAME, file:PATH or stored: a value itself does not belong here",
        ),
        (
            "services:\n  stripe:\n    credentials: {STRIPE_SECRET_KEY: stored}\n",
            "wsmon.yaml:3: services.stripe.credentials.STRIPE_SECRET_KEY: says stored, but no value is stored",
        ),
        ("services:\n  stripe:\n    credentials: {STRIPE_SECRET_KEY: 5}\n", "STRIPE_SECRET_KEY: must be env:NAME"),
        ("services:\n  stripe:\n    credentials: {STRIPE_SECRET_KEY: }\n", "STRIPE_SECRET_KEY: has no value"),
        (
            "services:\n  a: {provider: stripe, renamed_from: x}\n  b: {provider: stripe, renamed_from: x}\n",
            'wsmon.yaml:3: services.b.renamed_from: a is renamed from "x" too',
        ),
        (
            "services:\n  present: {provider: stripe}\n  a: {provider: stripe, renamed_from: present}\n",
            'wsmon.yaml:3: services.a.renamed_from: "present" is in the file too',
        ),
    ],
)
def test_it_refuses_a_wrong_file_naming_line_and_key(text: str, complaint: str, tmp_path: Path) -> None:
    (problem,) = refused(text, tmp_path)

    assert complaint in problem
    assert SECRET not in problem


@pytest.mark.django_db
def test_it_tells_every_mistake_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """services:
  stripe:
    criticality: hgih
    checks:
      - {kind: conectivity, interval: 30 parsecs}
  gitub: {}
  our-site:
    provider: http
    checks: [{kind: http, url: x, timeout: 1h, expect: {regex: "("}}]
sauces: {}
"""
    problems = refused(text, tmp_path)

    assert [problem.split(": ")[1] for problem in problems] == [
        "services.stripe.criticality",
        "services.stripe.checks[0].kind",
        "services.stripe.checks[0].interval",
        "services.gitub",
        "services.our-site.checks[0].timeout",
        "services.our-site.checks[0].url",
        "services.our-site.checks[0].expect.regex",
        "sauces",
    ]


@pytest.mark.django_db
def test_a_wrong_value_behind_a_reference_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITE_URL", SECRET)

    (problem,) = refused(SITE.replace("http://127.0.0.1:9001/health", "env:SITE_URL"), tmp_path)

    assert "checks[0].url" in problem
    assert "env:SITE_URL" in problem
    assert SECRET not in problem


def test_no_kind_has_an_option_that_every_check_has() -> None:
    for slug in providers.names():
        for kind in providers.get(slug).kinds.values():
            assert not {*kind.options.model_fields} & {*CheckEntry.model_fields}


def test_every_vendor_has_default_checks() -> None:
    for slug in providers.names():
        provider = providers.get(slug)
        if provider.kinds and not provider.generic:
            spec, findings = read_service(slug, {})
            assert not findings
            assert spec is not None
            assert {"connectivity", "authentication", "functionality"} >= {check.name for check in spec.checks}
            assert spec.checks[0].kind == "connectivity"


def test_the_default_timeout_is_never_longer_than_the_interval() -> None:
    spec, findings = read_check(providers.get("stripe"), {"kind": "connectivity", "interval": "2s"})

    assert not findings
    assert spec is not None
    assert spec.timeout == 2


# Export ------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_export_has_the_keys_in_order_and_leaves_defaults_out(tmp_path: Path) -> None:
    path = tmp_path / "wsmon.yaml"
    path.write_text(
        """services:
  stripe:
    checks:
      - {expect: {status: 401}, url: "https://example.com", timeout: 2000ms, interval: 0.5m, kind: http, name: site,
         confirm_up: 2, confirm_down: 3, degraded_over: 0.8s, method: GET}
    breaker: {recovery_timeout: 60s, policy: rolling, window: 10s}
    criticality: high
    name: Payments
    provider: stripe
"""
    )
    apply_file(path)

    assert (
        export_text()
        == """services:
  stripe:
    name: Payments
    criticality: high
    breaker:
      policy: rolling
      recovery_timeout: 1m
    checks:
    - kind: http
      name: site
      timeout: 2s
      degraded_over: 800ms
      confirm_down: 3
      url: https://example.com
      expect:
        status: 401
"""
    )


@pytest.mark.django_db
def test_export_masks_a_secret_that_got_in_and_says_so() -> None:
    options = {"url": f"http://u:{SECRET}@127.0.0.1/", "headers": {"Authorization": SECRET, "Accept": "text/plain"}}
    make_check(make_service("our-site"), name="health", options=options)

    text = export_text()

    assert SECRET not in text
    assert "# services.our-site.checks[0].headers.Authorization: a secret stands here in clear" in text
    assert yaml.safe_load(text)["services"]["our-site"]["checks"][0]["headers"] == {
        "Authorization": "***",
        "Accept": "text/plain",
    }


@pytest.mark.django_db
def test_export_writes_stored_values_as_stored_only(tmp_path: Path) -> None:
    service = make_service("stripe", "stripe")
    service.credentials.create(variable="STRIPE_SECRET_KEY", encrypted=secrets.encrypt(SECRET))

    text = export_text()

    assert yaml.safe_load(text)["services"]["stripe"]["credentials"] == {"STRIPE_SECRET_KEY": "stored"}
    assert SECRET not in text
    (tmp_path / "wsmon.yaml").write_text(text)
    assert apply_file(tmp_path / "wsmon.yaml", prune=True).changes == []


@pytest.mark.django_db
def test_export_survives_a_provider_that_is_no_more() -> None:
    make_check(make_service("old", "myspace"), kind="poke", name="poke", options={"a": 1}, interval=60, timeout=5)

    assert yaml.safe_load(export_text())["services"]["old"]["checks"] == [
        {"kind": "poke", "interval": "1m", "timeout": "5s", "a": 1}
    ]


SLUGS = st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=20)


def durations(least: float, most: float) -> st.SearchStrategy[str]:
    """The same times in different hands."""
    whole = st.integers(int(least * 1000), int(most * 1000))
    return whole.flatmap(lambda ms: st.sampled_from([f"{ms}ms", f"{ms / 1000:.3f}s", f"{ms // 1000}s{ms % 1000}ms"]))


def optional(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keys)


PLAIN = TEXTS.filter(lambda text: not secrets.is_reference(text))
SCALARS = st.one_of(PLAIN, st.integers(-(2**31), 2**31), st.booleans())
URLS = st.sampled_from(["https://example.com/é", "env:SITE_URL"])
EXPECT = optional(
    status=st.one_of(st.integers(100, 599), st.lists(st.integers(100, 599), min_size=1, max_size=3), st.just("2xx")),
    body_contains=st.one_of(SLUGS, st.lists(SLUGS, max_size=2)),
    json=st.dictionaries(SLUGS.map(lambda name: f"$.a{name}"), SCALARS, max_size=3),
)
CHECKS = st.builds(
    lambda fixed, times, more: fixed | times | more,
    st.fixed_dictionaries({"kind": st.just("http"), "url": URLS}),
    optional(interval=durations(5, 86_400), timeout=durations(1, 5), degraded_over=durations(0.001, 0.999)),
    optional(
        confirm_down=st.integers(1, 20),
        confirm_up=st.integers(1, 20),
        headers=st.dictionaries(st.sampled_from(["Accept", "X-Trace"]), SLUGS, max_size=2),
        body=PLAIN,
        method=st.sampled_from(["get", "GET", "POST"]),
        expect=EXPECT,
        max_bytes=st.integers(1, 10_000),
    ),
)
BREAKER = st.one_of(
    optional(
        policy=st.just("rolling"),
        error_threshold=st.floats(0.01, 1),
        window=durations(1, 3600),
        recovery_max=durations(0.1, 86_400),
        slow_over=durations(0.001, 3600),
        trials=st.integers(1, 100),
        ignore_status=st.lists(st.integers(100, 599), max_size=3),
    ),
    st.builds(
        lambda more: {"policy": "counting"} | more,
        optional(failure_threshold=st.integers(1, 50), recovery_timeout=durations(0.1, 86_400)),
    ),
)
SERVICES = st.dictionaries(
    SLUGS,
    st.builds(
        lambda service, checks: service | {"checks": [one | {"name": name} for name, one in checks.items()]},
        st.builds(
            lambda provider, more: {"provider": provider} | more,
            st.sampled_from(["stripe", "http"]),
            optional(
                name=TEXTS.filter(str.isprintable),
                criticality=st.sampled_from(["critical", "high", "normal", "low"]),
                breaker=BREAKER,
                paused=st.booleans(),
            ),
        ),
        st.dictionaries(SLUGS, CHECKS, max_size=3),
    ),
    max_size=3,
)


@pytest.mark.django_db(transaction=False)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(services=SERVICES, key=st.booleans())
def test_applying_an_export_changes_nothing(services: dict[str, Any], key: bool, tmp_path: Path) -> None:
    path = tmp_path / "wsmon.yaml"
    environment = {"SITE_URL": "https://example.com/behind", "SOME_KEY": SECRET}
    for service in services.values():
        if key and service["provider"] == "stripe":
            service["credentials"] = {"STRIPE_SECRET_KEY": "env:SOME_KEY"}
    with patch.dict(os.environ, environment):
        path.write_text(yaml.safe_dump({"services": services}, allow_unicode=True), encoding="utf-8")
        apply_file(path, prune=True)
        first = export_text()
        path.write_text(first, encoding="utf-8")

        report = apply_file(path, prune=True)

        assert report.changes == []
        assert report.not_in_file == []
        assert export_text() == first
        assert list(yaml.safe_load(first)["services"]) != [] or not services
        assert SECRET not in first
    redact.forget()


def test_the_section_has_the_key_of_the_contract() -> None:
    assert services_section.key == "services"


@pytest.mark.django_db
@pytest.mark.parametrize(("port", "accepted"), [("8443", True), ("eighty", False), ("70000", False)])
def test_a_number_may_come_from_a_reference(
    port: str, accepted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TARGET_PORT", port)
    path = tmp_path / "wsmon.yaml"
    path.write_text(
        "services:\n  port:\n    provider: tcp\n    checks:\n"
        "      - {kind: tcp, host: example.com, port: 'env:TARGET_PORT'}\n"
    )
    if accepted:
        apply_file(path)
        assert Check.objects.get().options["port"] == "env:TARGET_PORT"
    else:
        with pytest.raises(ConfigError, match=r"checks\[0\]\.port"):
            apply_file(path)
