"""The sections sources, destinations and routes: wrong in every way a person gets them wrong, and what comes out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import providers
from monitoring.changes import archive_service
from monitoring.models import Circuit
from tests.monitoring.factories import make_service
from tests.webhooks.factories import make_destination, make_route, make_source
from webhooks.config import destinations_section, routes_section, sources_section
from webhooks.models import Destination, Route, Secret, Source
from webhooks.schema import SourceEntry, read_source_secrets, with_webhooks
from wsmon import redact, secrets
from wsmon.config import ConfigError, apply_file, export_text
from wsmon.config.problems import Finding
from wsmon.models import AuditEntry

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "webhooks.md"
SECRET = "planted-Secret-4711-value"
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""The key of the specification's example."""
DESTINATION = "destinations:\n  app:\n    url: http://127.0.0.1:9100/hooks\n"
BOTH = "sources:\n  stripe: {}\ndestinations:\n  app: {url: 'http://127.0.0.1:9100/hooks'}\n"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GOOD", WHSEC)
    monkeypatch.setenv("OTHER", WHSEC.swapcase().replace("WHSEC", "whsec"))
    monkeypatch.setenv("SHORT", "short-4711")
    monkeypatch.setenv("TEXT", SECRET)
    yield
    redact.forget()


def rows() -> list[list[dict[str, Any]]]:
    return [list(model.objects.values()) for model in (Source, Destination, Route, Secret, Circuit)]


def refused(text: str, tmp_path: Path) -> list[str]:
    """Apply a bad file to a database that has something in it; return the problems."""
    path = tmp_path / "wsmon.yaml"
    path.write_text(text)
    make_service("billing", "stripe")
    make_route(make_source("present"), make_destination("there"))
    before = rows()
    with pytest.raises(ConfigError) as caught:
        apply_file(path, prune=True)
    assert rows() == before
    assert not AuditEntry.objects.exists()
    return [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]


SOURCES = [
    ("{secret: env:GOOD}", '.secret: unknown key; did you mean "secrets"'),
    (f"{{secret: {SECRET}}}", '.secret: unknown key; did you mean "secrets"'),
    ("{zzz: 1}", ".zzz: unknown key"),
    ("{provider: strpe}", '.provider: "strpe" is not a provider; did you mean "stripe"?'),
    ("{provider: http}", '.provider: "http" is a provider without webhooks'),
    ("{provider: hooks}", '.provider: "hooks" is not a provider'),
    ("{provider: 5}", ".provider: 5 is not text"),
    ("{provider: }", ".provider: has no value"),
    ("", ": has no value; write {} for the defaults"),
    ("[x]", ": a list stands where a mapping"),
    ("env:GOOD", ': "env:GOOD" stands where a mapping'),
    ("{secrets: env:NOT_SET_ANYWHERE}", '.secrets: "env:NOT_SET_ANYWHERE" leads nowhere'),
    ("{secrets: [env:GOOD, env:NOT_SET_ANYWHERE]}", '.secrets[1]: "env:NOT_SET_ANYWHERE" leads nowhere'),
    ("{secrets: [env:GOOD, env:GOOD]}", ".secrets[1]: stands here twice, first as secrets[0]"),
    (
        f"{{secrets: {SECRET}}}",
        ".secrets: must be env:NAME, file:PATH or stored: a value itself does not belong here",
    ),
    (f"{{secrets: [{WHSEC}]}}", ".secrets[0]: must be env:NAME, file:PATH or stored"),
    ("{secrets: [5]}", ".secrets[0]: must be env:NAME"),
    ("{secrets: {a: env:GOOD}}", ".secrets: must be env:NAME"),
    ("{secrets: }", ".secrets: has no value"),
    ("{secrets: []}", ".secrets: is empty: without one, stripe's signatures prove nothing"),
    ("{secrets: stored}", ".secrets: says stored, but no value is stored: enter it in the admin first"),
    ("{provider: standardwebhooks, secrets: env:SHORT}", '.secrets: what "env:SHORT" leads to is not'),
    ("{max_bytes: 1 parsec}", '.max_bytes: "1 parsec" is not a size such as 20000, 64kB, 1MB'),
    ("{max_bytes: 0}", ".max_bytes: 0 must be at least 1"),
    ("{max_bytes: 1000MB}", '.max_bytes: "1000MB" must be at most 33554432'),
    ("{max_bytes: true}", ".max_bytes: true is not a size"),
    ("{url: example.com/hooks}", '.url: "example.com/hooks" must be a URL that begins with http'),
    ("{url: 'https://a:planted-Secret-4711-value@example.com/'}", ".url: holds a secret"),
    ("{url: 5}", ".url: 5 is not text"),
    ("{service: nowhere}", '.service: "nowhere" is not a service; known: billing'),
    ("{service: biling}", '.service: "biling" is not a service; did you mean "billing"?'),
    ("{service: [billing]}", ".service: a list is not text"),
    ("{watch_silence: maybe}", '.watch_silence: "maybe" is neither true nor false'),
    ("{provider: shopify, reconcile: true}", ".reconcile: shopify has no list of its events to compare with"),
    ("{provider: generic, secrets: env:TEXT, encoding: hexx}", '.encoding: "hexx" is not one of'),
    ("{provider: generic, secrets: env:TEXT, headr: X-Sign}", '.headr: unknown key; did you mean "header"?'),
    ("{provider: whatsapp, verify_token: planted-Secret-4711-value}", ".verify_token: a secret does not belong here"),
    ("{provider: whatsapp, verify_token: env:NOT_SET_ANYWHERE}", ".verify_token: "),
    ("{provider: stripe, renamed_from: a b}", '.renamed_from: "a b" is not a name'),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("value", "complaint"), SOURCES)
def test_it_refuses_a_wrong_source_naming_line_and_key(value: str, complaint: str, tmp_path: Path) -> None:
    (problem,) = refused(f"services: {{billing: {{provider: stripe}}}}\nsources:\n  stripe: {value}\n", tmp_path)

    assert problem.startswith("wsmon.yaml:3: sources.stripe" + complaint)
    assert SECRET not in problem
    assert "short-4711" not in problem


DESTINATIONS = [
    ("timeout: 5 parsecs", '.timeout: "5 parsecs" is not a duration such as 250ms, 5s, 2m, 1h'),
    ("timeout: 2m", ".timeout: 2m is not between 100ms and 1m"),
    ("timout: 5s", '.timout: unknown key; did you mean "timeout"?'),
    ("header: {X: y}", '.header: unknown key; did you mean "headers"'),
    ("max_per_second: 0", ".max_per_second: 0 must be at least 0.01"),
    ("max_per_second: fast", '.max_per_second: "fast" is not a number'),
    ("concurrency: 0", ".concurrency: 0 must be at least 1"),
    ("concurrency: 257", ".concurrency: 257 must be at most 256"),
    ("order: free", '.order: unknown key; did you mean "order_by"'),
    ("order_by: data.id", '.order_by: "data.id" must be subject, or a path'),
    ('order_by: "$.data["', ".order_by: "),
    ("order_by: 5", ".order_by: 5 is not text"),
    ("retry: 5s", '.retry: "5s" stands where a list belongs'),
    ("retry: [5s, soon]", '.retry[1]: "soon" is not a duration'),
    ("retry: [8d]", ".retry[0]: 8d is not between 100ms and 7d"),
    (f"retry: [{', '.join(['1s'] * 21)}]", ".retry: "),
    ("headers: [a]", ".headers: a list stands where a mapping"),
    ("headers: {X: 5}", ".headers.X: 5 is not text: put it in quotes"),
    ("headers: {Host: example.com}", ".headers.Host: this header is set by wsmon itself"),
    ("headers: {Webhook-Id: x}", ".headers.Webhook-Id: this header is set by wsmon itself"),
    ("headers: {a b: x}", '.headers.a b: "x" is not the name of a header'),
    ('headers: {X: "a\\r\\nY: z"}', ".headers.X: "),
    ("headers: {X: ä}", '.headers.X: "ä" must be one line of at most 4096 ASCII characters'),
    ("headers: {X: a, x: b}", ".headers: names a header twice"),
    (f"headers: {{Authorization: Bearer {SECRET}}}", ".headers.Authorization: a secret does not belong here"),
    ("headers: {Authorization: env:NOT_SET_ANYWHERE}", '.headers.Authorization: "env:NOT_SET_ANYWHERE" leads'),
    ("signing_secret: env:NOT_SET_ANYWHERE", '.signing_secret: "env:NOT_SET_ANYWHERE" leads nowhere'),
    ("signing_secret: env:SHORT", '.signing_secret: what "env:SHORT" leads to is shorter than 16 characters'),
    ("signing_secret: [env:GOOD, env:SHORT]", '.signing_secret[1]: what "env:SHORT" leads to is shorter'),
    (f"signing_secret: {WHSEC}", ".signing_secret: must be env:NAME, file:PATH or stored: a value itself"),
    ("signing_secret: stored", ".signing_secret: says stored, but no value is stored"),
    ("signing_secret: [env:GOOD, env:GOOD]", ".signing_secret[1]: stands here twice"),
    ("forward_headers: 1", ".forward_headers: 1 is neither true nor false"),
    ("service: biling", '.service: "biling" is not a service; did you mean "billing"?'),
    ("breaker: counting", '.breaker: "counting" stands where a mapping'),
    ("breaker: {policy: rollin}", '.breaker.policy: "rollin" is not a policy; did you mean "rolling"?'),
    ("breaker: {window: 5s}", ".breaker.window: unknown key"),
    ("breaker: {failure_threshold: 0}", ".breaker.failure_threshold: 0 must be at least 1"),
    ("disable_after: 1s", ".disable_after: 1s is not between 1m and 90d"),
    ("health_url: nowhere", '.health_url: "nowhere" must be a URL'),
    ("paused: maybe", '.paused: "maybe" is neither true nor false'),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("line", "complaint"), DESTINATIONS)
def test_it_refuses_a_wrong_destination_naming_line_and_key(line: str, complaint: str, tmp_path: Path) -> None:
    (problem,) = refused(f"{DESTINATION}    {line}\n", tmp_path)

    assert problem.startswith("wsmon.yaml:4: destinations.app" + complaint)
    assert SECRET not in problem
    assert "short-4711" not in problem


ROUTES = [
    ("{source: stripe, destination: ap}", '.destination: "ap" is not a destination; did you mean "app"?'),
    ("{source: strpe, destination: app}", '.source: "strpe" is not a source; did you mean "stripe"?'),
    ("{source: stripe, destinations: [app, nowhere]}", '.destinations[1]: "nowhere" is not a destination'),
    ("{destination: app}", ".source: is missing"),
    ("{source: stripe}", ".destination: is missing"),
    ("{source: stripe, destination: app, destinations: [app]}", ".destinations: has no use beside `destination`"),
    ("{source: stripe, destinations: []}", ".destinations: "),
    ("{source: stripe, destinations: app}", '.destinations: "app" stands where a list belongs'),
    ("{source: stripe, destinations: [app, app]}", '.destinations: names "app" twice'),
    ("{source: [stripe], destination: app}", ".source: a list is not text"),
    ("{source: stripe, destination: app, event: [x]}", '.event: unknown key; did you mean "events"?'),
    ("{source: stripe, destination: app, events: x}", '.events: "x" stands where a list belongs'),
    ("{source: stripe, destination: app, events: []}", ".events: "),
    ("{source: stripe, destination: app, events: [a b]}", '.events[0]: "a b" is not a pattern'),
    ("{source: stripe, destination: app, events: [5]}", ".events[0]: 5 is not text"),
    (
        "{source: stripe, destination: app, priority: hgih}",
        '.priority: "hgih" is not a priority; did you mean "high"?',
    ),
    ("{source: stripe, destination: app, priority: 1}", ".priority: 1 is not text"),
    ("{source: stripe, destination: app, filters: [x]}", ".filters: a list stands where a mapping"),
    ("{source: stripe, destination: app, filters: {data.id: x}}", ".filters.data.id: 'data.id' is not a path"),
    ('{source: stripe, destination: app, filters: {"$.a": []}}', ".filters.$.a: must list 1 to 100 values"),
    ('{source: stripe, destination: app, filters: {"$.a": [[1]]}}', ".filters.$.a: a list stands where a plain"),
    ('{source: stripe, destination: app, filters: {"$.a": {gte: x}}}', ".filters.$.a: gte needs a number"),
    ("stripe", ': "stripe" stands where a mapping'),
    ("", ": nothing stands where a mapping"),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("value", "complaint"), ROUTES)
def test_it_refuses_a_wrong_route_naming_line_and_key(value: str, complaint: str, tmp_path: Path) -> None:
    (problem,) = refused(f"{BOTH}routes:\n  - {value}\n", tmp_path)

    assert problem.startswith("wsmon.yaml:6: routes[0]" + complaint)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("sources: [stripe]\n", "wsmon.yaml:1: sources: a list stands where a mapping"),
        ("sources:\n", "wsmon.yaml:1: sources: nothing stands where a mapping"),
        ("sources:\n  ours: {}\n", 'wsmon.yaml:2: sources.ours: "ours" is not a provider, so `provider` must say'),
        ("sources:\n  a b: {provider: stripe}\n", 'wsmon.yaml:2: sources.a b: "a b" is not a name'),
        (
            "sources:\n  published: {provider: stripe}\n",
            "wsmon.yaml:2: sources.published: this name is reserved for the events that the team itself publishes",
        ),
        ("sources:\n  stripe: {}\n  stripe: {}\n", "wsmon.yaml:3: sources.stripe: this key stands here twice"),
        (
            "sources:\n  a: {provider: stripe, renamed_from: x}\n  b: {provider: stripe, renamed_from: x}\n",
            'wsmon.yaml:3: sources.b.renamed_from: a is renamed from "x" too',
        ),
        (
            "sources:\n  present: {provider: stripe}\n  a: {provider: stripe, renamed_from: present}\n",
            'wsmon.yaml:3: sources.a.renamed_from: "present" is in the file too',
        ),
        ("destinations: app\n", 'wsmon.yaml:1: destinations: "app" stands where a mapping'),
        ("destinations:\n  app: {}\n", "wsmon.yaml:2: destinations.app.url: is missing"),
        ("destinations:\n  app:\n", "wsmon.yaml:2: destinations.app: nothing stands where a mapping"),
        ("destinations:\n  app: {url: }\n", "wsmon.yaml:2: destinations.app.url: has no value"),
        ("destinations:\n  app: {url: ftp://x/}\n", 'wsmon.yaml:2: destinations.app.url: "ftp://x/" must be a URL'),
        (
            f"destinations:\n  app: {{url: 'http://u:{SECRET}@127.0.0.1/'}}\n",
            "wsmon.yaml:2: destinations.app.url: holds a secret",
        ),
        (
            "destinations:\n  app: {url: env:TEXT}\n",
            'wsmon.yaml:2: destinations.app.url: "env:TEXT" must be a URL',
        ),
        (
            "destinations:\n  app: {url: 'http://x/', service: billing, breaker: {policy: rolling}}\n",
            'wsmon.yaml:2: destinations.app.breaker: has no use beside service: "billing", whose breaker it shares',
        ),
        ("routes: {}\n", "wsmon.yaml:1: routes: a mapping stands where a list belongs"),
        (
            "sources: {stripe: {}}\nroutes:\n- {source: present, destination: there}\n",
            'wsmon.yaml:3: routes[0].source: "present" is not a source',
        ),
        (
            "destinations: {}\nroutes:\n- {source: present, destination: there}\n",
            'wsmon.yaml:3: routes[0].destination: "there" is not a destination',
        ),
        (
            f"{BOTH}routes:\n- {{source: stripe, destination: app, events: [a, b]}}\n"
            "- {source: stripe, destination: app, events: [b, a, b], priority: high}\n",
            "wsmon.yaml:7: routes[1]: is the same as routes[0]: its source, destination, events and filters",
        ),
        (
            "services: {}\nsources:\n  stripe: {service: billing}\n",
            'wsmon.yaml:3: sources.stripe.service: "billing" is not a service',
        ),
    ],
)
def test_it_refuses_a_wrong_file_naming_line_and_key(text: str, complaint: str, tmp_path: Path) -> None:
    (problem,) = refused(text, tmp_path)

    assert problem.startswith(complaint)
    assert SECRET not in problem


@pytest.mark.django_db
def test_it_tells_every_mistake_of_every_section_at_once(tmp_path: Path) -> None:
    text = """routes:
  - {source: stripe, destination: app, priority: hgih, filters: {x: 1, "$.y": []}}
destinations:
  app: {url: x, timeout: never, signing_secret: secret, colour: red}
sources:
  stripe: {provider: http, max_bytes: much}
"""
    problems = refused(text, tmp_path)

    assert [problem.split(": ")[1] for problem in problems] == [
        "routes[0].priority",
        "routes[0].filters.x",
        "routes[0].filters.$.y",
        "destinations.app.timeout",
        "destinations.app.colour",
        "destinations.app.url",
        "destinations.app.signing_secret",
        "sources.stripe.max_bytes",
        "sources.stripe.provider",
    ]


def test_a_vendor_without_variables_needs_secrets_that_are_named() -> None:
    provider = providers.get("generic")
    assert provider.hooks is not None

    found = read_source_secrets(provider, replace(provider.hooks, secrets=()), {})
    without = read_source_secrets(provider, replace(provider.hooks, secrets=(), needs_secret=False), {"secrets": []})

    assert found[1] == [Finding(("secrets",), "is missing: generic has no variable of its own to look in")]
    assert without == ((), [])


@pytest.mark.django_db
def test_a_wrong_default_secret_refuses_the_file_and_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDARD_WEBHOOKS_SECRET", "short-4711")

    (problem,) = refused("sources:\n  standardwebhooks: {}\n", tmp_path)

    assert "sources.standardwebhooks.secrets: what" in problem
    assert "short-4711" not in problem


def test_no_scheme_has_an_option_that_every_source_has() -> None:
    for name in with_webhooks():
        scheme = providers.get(name).hooks
        assert scheme is not None
        assert not {*scheme.options.model_fields} & {*SourceEntry.model_fields}


def test_every_vendor_that_sends_webhooks_can_be_had_by_its_name_alone() -> None:
    for name in with_webhooks():
        specs, findings = sources_section.read({name: {}})
        scheme = providers.get(name).hooks
        assert scheme is not None
        missing = [name for name, field in scheme.options.model_fields.items() if field.is_required()]
        assert [finding.path for finding in findings] == [(name, option) for option in missing]
        assert findings or [spec.provider for spec in specs] == [name]


# Export ------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_export_has_the_keys_in_order_and_leaves_defaults_out(tmp_path: Path) -> None:
    path = tmp_path / "wsmon.yaml"
    path.write_text(
        """routes:
  - {priority: critical, events: ["invoice.*"], destination: app, source: stripe}
  - {source: published, destinations: [app, plain], events: ["*"], filters: {"$.data.kind": [a, 1]}, priority: normal}
destinations:
  app:
    disable_after: 5d
    breaker: {failure_threshold: 5, recovery_timeout: 60s}
    retry: [5000ms, 1m, 0.5h]
    order_by: subject
    signing_secret: [env:GOOD]
    concurrency: 8
    max_per_second: 50
    timeout: 5.0s
    headers: {X-Team: ops, Authorization: env:TEXT}
    url: http://127.0.0.1:9100/hooks
  plain: {url: http://127.0.0.1:9101/, breaker: {policy: counting, success_threshold: 2}, retry: []}
  shared: {url: http://127.0.0.1:9102/, service: billing, signing_secret: [env:GOOD, env:OTHER]}
sources:
  stripe: {secrets: env:STRIPE_WEBHOOK_SECRET, provider: stripe, max_bytes: 1000kB}
  shop: {timestamp_header: X-Time, header: X-Sign, secrets: [env:TEXT, env:GOOD], provider: generic, reconcile: false}
services:
  billing: {provider: stripe, checks: []}
"""
    )
    with patch.dict(os.environ, {"STRIPE_WEBHOOK_SECRET": WHSEC}):
        apply_file(path)

    assert (
        export_text()
        == """services:
  billing:
    provider: stripe
    checks: []
sources:
  stripe:
    max_bytes: 1MB
  shop:
    provider: generic
    secrets:
    - env:TEXT
    - env:GOOD
    header: X-Sign
    timestamp_header: X-Time
destinations:
  app:
    url: http://127.0.0.1:9100/hooks
    headers:
      X-Team: ops
      Authorization: env:TEXT
    timeout: 5s
    max_per_second: 50.0
    order_by: subject
    signing_secret: env:GOOD
    retry:
    - 5s
    - 1m
    - 30m
    breaker:
      policy: counting
      recovery_timeout: 1m
  plain:
    url: http://127.0.0.1:9101/
    retry: []
  shared:
    url: http://127.0.0.1:9102/
    signing_secret:
    - env:GOOD
    - env:OTHER
    service: billing
routes:
- source: stripe
  destination: app
  events:
  - invoice.*
  priority: critical
- source: published
  destination: app
  filters:
    $.data.kind:
    - a
    - 1
- source: published
  destination: plain
  filters:
    $.data.kind:
    - a
    - 1
"""
    )


@pytest.mark.django_db
def test_export_masks_secrets_that_got_in_and_writes_stored_ones_as_stored() -> None:
    make_source("stripe", secrets=[SECRET, "env:GOOD"], provider="stripe")
    make_source("wa", "whatsapp", secrets=[SECRET], options={"verify_token": SECRET})
    make_destination("app", f"http://u:{SECRET}@127.0.0.1/", [SECRET], headers={"Authorization": SECRET, "X": "y"})

    text = export_text()

    assert SECRET not in text
    for place in ("sources.wa.verify_token", "destinations.app.url", "destinations.app.headers.Authorization"):
        assert f"# {place}: a secret stands here in clear" in text
    data = yaml.safe_load(text)
    assert data["sources"]["stripe"]["secrets"] == ["stored", "env:GOOD"]
    assert data["destinations"]["app"]["signing_secret"] == "stored"
    assert data["destinations"]["app"]["headers"] == {"Authorization": "***", "X": "y"}


@pytest.mark.django_db
def test_export_survives_a_provider_that_is_no_more_and_leaves_out_what_is_archived() -> None:
    source = make_source("old", "myspace", secrets=["env:GOOD"], options={"a": 1})
    make_route(source, make_destination("gone", archived_at="2026-01-01T00:00Z"))

    data = yaml.safe_load(export_text())

    assert data == {"sources": {"old": {"provider": "myspace", "secrets": ["env:GOOD"], "a": 1}}}


# Round trip --------------------------------------------------------------------------------------

SLUGS = st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True).filter(lambda slug: slug != "published")
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=20)
SCALARS = st.one_of(TEXTS, st.integers(-(2**62), 2**62), st.booleans(), st.none(), st.floats(-1e30, 1e30))
REFERENCES = st.sampled_from(["env:GOOD", "env:OTHER", "env:TEXT"])


def durations(least: float, most: float) -> st.SearchStrategy[str]:
    whole = st.integers(int(least * 1000), int(most * 1000))
    return whole.flatmap(lambda ms: st.sampled_from([f"{ms}ms", f"{ms / 1000:.3f}s", f"{ms // 1000}s{ms % 1000}ms"]))


def optional(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keys)


SOURCE = st.one_of(
    st.builds(
        lambda more: {"provider": "stripe"} | more,
        optional(
            secrets=st.lists(st.sampled_from(["env:GOOD", "env:OTHER"]), min_size=1, unique=True),
            max_bytes=st.one_of(st.integers(1, 10_000_000), st.sampled_from(["1MB", "64KiB", "2000kB"])),
            url=st.sampled_from(["https://example.com/é", "env:SITE"]),
            watch_silence=st.booleans(),
            reconcile=st.booleans(),
            service=st.just("billing"),
        ),
    ),
    st.builds(
        lambda secrets, more: {"provider": "generic", "secrets": secrets} | more,
        st.one_of(REFERENCES, st.lists(REFERENCES, min_size=1, unique=True)),
        optional(header=st.sampled_from(["X-Sign", "x-signature"]), encoding=st.sampled_from(["hex", "base64"])),
    ),
)
BREAKER = st.one_of(
    optional(policy=st.just("counting"), failure_threshold=st.integers(1, 50), recovery_timeout=durations(0.1, 100)),
    st.builds(
        lambda more: {"policy": "rolling"} | more, optional(window=durations(1, 3600), trials=st.integers(1, 9))
    ),
)
TARGET = st.builds(
    lambda url, breaker, more: {"url": url} | breaker | more,
    st.sampled_from(["https://example.com/é", "env:SITE"]),
    st.one_of(st.just({}), st.just({"service": "billing"}), BREAKER.map(lambda policy: {"breaker": policy})),
    optional(
        timeout=durations(0.1, 60),
        headers=st.dictionaries(st.sampled_from(["Accept", "X-Trace"]), SLUGS | st.just("env:TEXT"), max_size=2),
        max_per_second=st.one_of(st.integers(1, 10_000), st.floats(0.01, 10_000)),
        concurrency=st.integers(1, 256),
        order_by=st.sampled_from(["subject", "$.data.object.id", "$.items[0]"]),
        signing_secret=st.one_of(REFERENCES, st.lists(REFERENCES, max_size=3, unique=True)),
        retry=st.lists(durations(0.1, 604_800), max_size=20),
        forward_headers=st.booleans(),
        disable_after=durations(60, 7_776_000),
        health_url=st.sampled_from(["https://example.com/up", "env:SITE"]),
    ),
)
ROUTE = optional(
    events=st.lists(st.from_regex(r"[a-z.*_]{1,20}", fullmatch=True), min_size=1, max_size=4),
    filters=st.dictionaries(
        SLUGS.map(lambda name: f"$.a{name}"),
        st.one_of(
            SCALARS,
            st.lists(SCALARS, min_size=1, max_size=4),
            st.fixed_dictionaries({"gte": st.floats(-1e30, 1e30), "exists": st.booleans()}),
        ),
        max_size=3,
    ),
    priority=st.sampled_from(["critical", "high", "normal", "low"]),
)


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    """A whole file; routes whose twins would be refused are left out."""
    sources = draw(st.dictionaries(SLUGS, SOURCE, max_size=3))
    destinations = draw(st.dictionaries(SLUGS, TARGET, max_size=3))
    ends = st.tuples(st.sampled_from([*sources, "published"]), st.sampled_from([*destinations, ""]))
    chosen = draw(st.lists(ends, max_size=4, unique=True))
    routes = [draw(ROUTE) | {"source": source, "destination": target} for source, target in chosen if target]
    services = {"billing": {"provider": "stripe", "checks": []}}
    return {"routes": routes, "destinations": destinations, "sources": sources, "services": services}


@pytest.mark.django_db
def test_a_number_beyond_any_integer_survives_an_export(tmp_path: Path) -> None:
    route = {"source": "published", "destination": "app", "filters": {"$.amount": -2.8437983369041742e29}}
    wish = {"destinations": {"app": {"url": "https://example.com"}}, "routes": [route]}
    path = tmp_path / "wsmon.yaml"
    path.write_text(yaml.safe_dump(wish), encoding="utf-8")
    apply_file(path)
    path.write_text(export_text(), encoding="utf-8")
    assert apply_file(path, prune=True).changes == []
    assert float(yaml.safe_load(export_text())["routes"][0]["filters"]["$.amount"]) == -2.8437983369041742e29


@pytest.mark.django_db(transaction=False)
@settings(
    max_examples=30, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(data=files())
def test_applying_an_export_changes_nothing(data: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "wsmon.yaml"
    with patch.dict(os.environ, {"SITE": "https://example.com/behind"}):
        path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
        apply_file(path, prune=True)
        again = apply_file(path, prune=True)
        first = export_text()
        path.write_text(first, encoding="utf-8")

        report = apply_file(path, prune=True)

        assert again.changes == report.changes == []
        assert again.not_in_file == report.not_in_file == []
        assert export_text() == first
        assert {*yaml.safe_load(first).get("destinations", {})} == {*data["destinations"]}
        assert len(yaml.safe_load(first).get("routes", [])) == len(data["routes"])
        assert SECRET not in first
        assert WHSEC not in first


def test_the_sections_have_the_keys_of_the_contract() -> None:
    assert [one.key for one in (sources_section, destinations_section, routes_section)] == [
        "sources",
        "destinations",
        "routes",
    ]


@pytest.mark.django_db
def test_an_export_of_stored_secrets_changes_nothing(tmp_path: Path) -> None:
    make_source("stripe", secrets=["first-value", "env:GOOD", "second-value"], provider="stripe")
    make_destination("app", "http://127.0.0.1/", ["env:GOOD", "third-value-that-is-long"])
    kept = [secrets.decrypt(bytes(one.encrypted)) for one in Secret.objects.order_by("id") if one.encrypted]
    path = tmp_path / "wsmon.yaml"
    path.write_text(export_text())

    report = apply_file(path, prune=True)

    # The factory makes no breaker; apply would, had anything else changed.
    assert report.changes == []
    assert [secrets.decrypt(bytes(one.encrypted)) for one in Secret.objects.order_by("id") if one.encrypted] == kept


@pytest.mark.django_db
def test_the_yaml_of_the_documentation_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", DOCUMENTATION.read_text(), re.MULTILINE | re.DOTALL)
    text = "".join(blocks)
    for name in re.findall(r"env:([A-Z_]+)", text):
        monkeypatch.setenv(name, "whsec_" + name.ljust(32, "x").replace("_", "y"))
    path = tmp_path / "wsmon.yaml"
    path.write_text(text)

    assert apply_file(path).changes
    assert apply_file(path, prune=True).changes == []
    assert (Source.objects.exists(), Destination.objects.exists(), Route.objects.exists()) == (True, True, True)


@pytest.mark.django_db
def test_a_service_that_was_archived_is_exported_as_none(tmp_path: Path) -> None:
    service = make_service("billing", "stripe")
    make_source("stripe", "stripe", ["env:GOOD"], service=service)
    make_destination("app", "http://127.0.0.1/", service=service)
    assert export_text().count("service: billing") == 2
    archive_service(service)
    path = tmp_path / "wsmon.yaml"
    path.write_text(export_text())

    assert "billing" not in path.read_text()
    assert apply_file(path, prune=True).changes == []
