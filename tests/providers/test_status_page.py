"""Status pages in every format, and pages that tell nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
import responses

import providers
from providers.base import ProbeContext
from providers.status_page import StatusPageOptions
from tests.providers.generic import NOW, refusal, run
from tests.servers import Handler, Server, answering, dripping, once, redirecting, refusing_port, silent
from wsmon.http import Client
from wsmon.vocabulary import Category, Outcome


def summary(
    indicator: str | None = "none", incidents: Any = (), page_id: str = "abc", **components: str
) -> dict[str, Any]:
    """A Statuspage summary; component names with ``_`` for a space."""
    return {
        "page": {"id": page_id, "name": "Vendor"},
        "status": {"indicator": indicator, "description": "x"},
        "components": [
            {"name": name.replace("_", " "), "status": status, "group": False} for name, status in components.items()
        ]
        + [{"name": "A group", "status": "major_outage", "group": True}],
        "incidents": list(incidents),
    }


def probe(body: Any, **options: Any) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with Server(answering(raw, headers={"Content-Type": "application/json"})) as server:
        return run("status_page", {"url": server.url("/summary.json")} | options)


@pytest.mark.parametrize(
    ("indicator", "outcome"),
    [
        ("none", Outcome.HEALTHY),
        ("minor", Outcome.DEGRADED),
        ("maintenance", Outcome.DEGRADED),
        ("major", Outcome.DEGRADED),
        ("critical", Outcome.CRITICAL),
        ("something new", Outcome.DEGRADED),
    ],
)
def test_the_pages_own_summary_counts_without_a_choice(indicator: str, outcome: Outcome) -> None:
    found = probe(summary(indicator, API="operational", Fiji="major_outage"))
    assert found.outcome is outcome
    assert found.http_status == 200


@pytest.mark.parametrize(
    ("word", "outcome", "category"),
    [
        ("operational", Outcome.HEALTHY, None),
        ("under_maintenance", Outcome.DEGRADED, None),
        ("degraded_performance", Outcome.DEGRADED, Category.SERVER_ERROR),
        ("partial_outage", Outcome.DEGRADED, Category.SERVER_ERROR),
        ("major_outage", Outcome.CRITICAL, Category.SERVER_ERROR),
    ],
)
def test_only_chosen_components_count(word: str, outcome: Outcome, category: Category | None) -> None:
    found = probe(summary("critical", API=word, Other="major_outage"), components="api")
    assert (found.outcome, found.category) == (outcome, category)
    assert [row["name"] for row in found.details["components"]] == ["API"]


def test_a_name_stands_for_those_that_begin_with_it() -> None:
    found = probe(summary(SMS_France="operational", SMS_Fiji="major_outage", Voice="operational"), components=["SMS"])
    assert found.outcome is Outcome.CRITICAL
    assert found.details["components"] == [
        {"name": "SMS Fiji", "status": "major outage"},
        {"name": "SMS France", "status": "operational"},
    ]
    assert "SMS Fiji: major outage" in found.message


def test_open_incidents_are_told() -> None:
    incidents = [
        {"name": "Old", "status": "resolved", "impact": "critical"},
        {"name": "API slow", "status": "investigating", "impact": "minor", "components": [{"name": "API"}]},
        {"name": "Elsewhere", "status": "identified", "impact": "minor", "components": [{"name": "Other"}]},
    ]
    body = summary("minor", incidents, API="degraded_performance", Other="operational")
    assert probe(body).details["incidents"] == ["API slow", "Elsewhere"]
    chosen = probe(body, components=["API"])
    assert chosen.details["incidents"] == ["API slow"]
    assert "API: degraded performance (API slow)" in chosen.message


def test_the_page_id_is_checked() -> None:
    assert probe(summary(API="operational"), page_id="abc").outcome is Outcome.HEALTHY
    moved = probe(summary(API="operational"), page_id="other")
    assert (moved.outcome, moved.category) == (Outcome.ERROR, Category.VALIDATION_ERROR)
    assert "another page" in moved.message


GOOGLE = [
    {"begin": "x", "end": "y", "service_name": "Gmail", "status_impact": "SERVICE_OUTAGE", "external_desc": "old"},
    {
        "begin": "x",
        "service_name": "Google Calendar",
        "status_impact": "SERVICE_OUTAGE",
        "external_desc": "Down\nmore",
    },
    {
        "begin": "x",
        "service_name": "Cloud",
        "status_impact": "SERVICE_DISRUPTION",
        "affected_products": [{"title": "Pub/Sub"}],
    },
]
SLACK = {
    "status": "active",
    "active_incidents": [{"title": "Slow", "type": "incident", "services": ["Messaging"]}],
}
APPLE = {
    "services": [
        {"serviceName": "iCloud Mail", "events": []},
        {
            "serviceName": "iCloud Calendar",
            "events": [
                {"eventStatus": "resolved", "statusType": "Outage"},
                {"eventStatus": "ongoing", "statusType": "Outage", "usersAffected": "All users", "message": "Down"},
            ],
        },
        {
            "serviceName": "iCloud Drive",
            "events": [{"eventStatus": "ongoing", "statusType": "Outage", "usersAffected": "Some users"}],
        },
    ]
}
AWS = [
    {"service": "s3-us-east-1", "status": "3", "summary": "Errors", "date": "1760702400", "arn": "arn:1"},
    {"service": "ec2-eu-west-1", "status": "0", "summary": "over", "date": "1760702400"},
    {"service": "sqs-us-east-1", "status": "1", "summary": "[RESOLVED] a word", "date": "1760702400"},
]
BETTERSTACK = {
    "data": {"id": "1", "attributes": {"company_name": "HB", "aggregate_state": "degraded"}},
    "included": [
        {"type": "status_page_resource", "attributes": {"public_name": "Payments", "status": "downtime"}},
        {"type": "status_page_resource", "attributes": {"public_name": "Mobile", "status": "operational"}},
        {"type": "status_page_section", "attributes": {"name": "x"}},
    ],
}
RSS = b"""<?xml version="1.0"?><rss version="2.0"><channel><title>feed</title>
<item><title><![CDATA[Sending &amp; receiving]]></title><description>d</description></item></channel></rss>"""


@pytest.mark.parametrize(
    ("format_name", "body", "components", "outcome", "says"),
    [
        ("google", GOOGLE, "Google Calendar", Outcome.CRITICAL, "Google Calendar: major outage (Down)"),
        ("google", GOOGLE, "Gmail", Outcome.HEALTHY, "operational"),
        ("google", GOOGLE, "Pub/Sub", Outcome.DEGRADED, "partial outage"),
        ("google", GOOGLE, (), Outcome.CRITICAL, "major outage"),
        ("google", [], (), Outcome.HEALTHY, "operational"),
        ("slack", SLACK, (), Outcome.DEGRADED, "partial outage (Slow)"),
        ("slack", SLACK, "Messaging", Outcome.DEGRADED, "Messaging"),
        ("slack", SLACK, "Huddles", Outcome.HEALTHY, "operational"),
        ("slack", {"status": "ok", "active_incidents": []}, (), Outcome.HEALTHY, "operational"),
        ("apple", APPLE, "iCloud Calendar", Outcome.CRITICAL, "iCloud Calendar: major outage (Down)"),
        ("apple", APPLE, "iCloud Drive", Outcome.DEGRADED, "partial outage"),
        ("apple", APPLE, "iCloud Mail", Outcome.HEALTHY, "operational"),
        ("apple", b"jsonCallback(" + json.dumps(APPLE).encode() + b");", "iCloud Mail", Outcome.HEALTHY, ""),
        ("betterstack", BETTERSTACK, (), Outcome.DEGRADED, "degraded performance"),
        ("betterstack", BETTERSTACK, "Payments", Outcome.CRITICAL, "Payments: major outage"),
        ("betterstack", BETTERSTACK, "Mobile", Outcome.HEALTHY, "operational"),
        ("rss", RSS, (), Outcome.DEGRADED, "Sending & receiving"),
        ("rss", b"<rss version='2.0'><channel></channel></rss>", (), Outcome.HEALTHY, "operational"),
    ],
)
def test_every_format_is_read(format_name: str, body: Any, components: Any, outcome: Outcome, says: str) -> None:
    found = probe(body, format=format_name, components=components)
    assert found.outcome is outcome, found.message
    assert says in found.message


HTML = b"<!doctype html><html>All systems operational</html>"


@pytest.mark.parametrize("format_name", ["statuspage", "google", "slack", "apple", "betterstack", "rss"])
@pytest.mark.parametrize(
    "body",
    [
        HTML,
        b"",
        b"null",
        b"[1, 2]",
        b"{}",
        b'"text"',
        b"42",
        b'{"components": 5, "data": [], "services": {}}',
        b"\xff\xfe",
    ],
)
def test_a_page_in_another_format_tells_nothing(format_name: str, body: bytes) -> None:
    found = probe(body, format=format_name)
    assert (found.outcome, found.category) == (Outcome.ERROR, Category.VALIDATION_ERROR)
    assert found.message.startswith("the status page itself cannot be read")


@pytest.mark.parametrize(
    ("handler", "category"),
    [
        (answering(HTML), Category.VALIDATION_ERROR),
        (answering(b"{}", "404 Not Found"), Category.VALIDATION_ERROR),
        (answering(b"{}", "503 Unavailable"), Category.SERVER_ERROR),
        (answering(b"{}", "429 Too Many"), Category.RATE_LIMITED),
        (redirecting("/"), Category.VALIDATION_ERROR),
        (silent, Category.TIMEOUT_ERROR),
        (dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", b"{" * 99), Category.TIMEOUT_ERROR),
        (once(b"nonsense\r\n\r\n"), Category.VALIDATION_ERROR),
        (once(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), Category.NETWORK_ERROR),
    ],
)
def test_a_page_that_fails_is_never_the_vendor_down(handler: Handler, category: Category) -> None:
    patience = 0.3 if category is Category.TIMEOUT_ERROR else 20  # a busy machine must not time the others out
    with Server(handler) as server:
        found = run("status_page", {"url": server.url()}, timeout=patience)
    assert (found.outcome, found.category) == (Outcome.ERROR, category)
    assert "the status page itself cannot be read" in found.message


def test_a_page_that_cannot_be_reached_is_never_the_vendor_down() -> None:
    with refusing_port() as port:
        found = run("status_page", {"url": f"http://127.0.0.1:{port}/"})
    assert (found.outcome, found.category) == (Outcome.ERROR, Category.NETWORK_ERROR)


def test_a_component_that_is_not_there_tells_nothing() -> None:
    found = probe(summary(API="operational"), components=["Renamed"])
    assert (found.outcome, found.category) == (Outcome.ERROR, Category.VALIDATION_ERROR)
    assert "lists no component 'Renamed'" in found.message


def test_a_vendors_service_needs_no_url() -> None:
    stripe = providers.get("stripe")
    assert stripe.status_page is not None
    body = summary(
        page_id=str(stripe.status_page.page_id), **{stripe.status_page.components[0].replace(" ", "_"): "operational"}
    )
    context = ProbeContext(http=Client(), timeout=2, now=NOW, options=StatusPageOptions())
    with responses.RequestsMock() as mock:
        mock.get(stripe.status_page.url, json=body)
        found = providers.run(stripe, "status_page", context)
    assert found.outcome is Outcome.HEALTHY, found.message
    assert [row["name"] for row in found.details["components"]] == [stripe.status_page.components[0]]


def test_a_service_without_a_known_page_needs_a_url() -> None:
    found = run("status_page", {})
    assert (found.outcome, found.category) == (Outcome.ERROR, Category.CONFIGURATION_ERROR)
    assert "set the option url" in found.message


def test_every_vendors_page_is_in_a_known_format() -> None:
    for slug in providers.names():
        page = providers.get(slug).status_page
        if page is not None:
            StatusPageOptions.model_validate({"url": page.url, "format": page.format, "components": page.components})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"url": "status.example.com"}, "must be a URL"),
        ({"url": "https://h/", "format": "xml"}, "format"),
        ({"format": "google"}, "need a url"),
        ({"url": "https://h/", "component": "x"}, "component"),
        ({"url": "https://h/", "components": [1]}, "components"),
    ],
)
def test_bad_options_are_refused_with_the_key(options: dict[str, Any], says: str) -> None:
    assert says in refusal("status_page", options)


@pytest.mark.parametrize(
    "garbage",
    [b"<item " * 300_000, b"<item><title>" + b" " * 2_000_000, b"<item>" + b"<title" * 300_000],
    ids=["items", "spaces", "titles"],
)
def test_a_feed_of_garbage_takes_no_time_to_read(garbage: bytes) -> None:
    found = probe(b"<rss>" + garbage, format="rss")
    assert (found.outcome, found.message) == (Outcome.DEGRADED, "the vendor says partial outage (an outage)")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8"])
def test_amazons_events_come_as_utf_16(encoding: str) -> None:
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    body = mark + json.dumps(AWS).encode(encoding)
    found = probe(body, format="aws", components=["s3"])
    assert (found.outcome, found.details["incidents"]) == (Outcome.CRITICAL, ["Errors"])
    assert probe(body, format="aws", components=["ec2"]).outcome is Outcome.HEALTHY
    assert probe(b"\xfe\xff[]", format="aws").outcome is Outcome.ERROR, "half a character"
    assert probe(b"[]", format="aws").outcome is Outcome.HEALTHY
    assert probe(b'[{"x": 1}]', format="aws").outcome is Outcome.ERROR


def test_a_vendors_own_page_can_be_elsewhere() -> None:
    stripe = providers.get("stripe")
    assert stripe.status_base == "STRIPE_STATUS_BASE"
    with responses.RequestsMock() as mock:
        mock.get(
            "https://mirror.test/x/api/v2/summary.json",
            json=summary(Stripe_API="operational", page_id="d5zv7xbys5v3"),
        )
        context = ProbeContext(
            http=Client(), timeout=5, now=NOW, options=StatusPageOptions(),
            variables={"STRIPE_STATUS_BASE": "https://mirror.test/x/"},
        )  # fmt: skip
        assert providers.run(stripe, "status_page", context).outcome is Outcome.HEALTHY
    assert providers.get("http").status_base == ""
