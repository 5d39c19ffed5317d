"""The rules that all vendors share."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

import providers
from providers import oauth
from providers.answers import Complaint, Dialect, Talk, conversation, needing, oauth_complaint, under_error
from providers.base import NotConfigured, ProbeContext, ProbeOutcome, Variable
from wsmon.http import Client, Headers, Response
from wsmon.vocabulary import Category, Outcome, Timings

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ACME = Dialect(
    vendor="Acme",
    complaint=under_error,
    variables=(Variable("ACME_KEY"),),
    bases={"ACME_API_BASE": "https://api.acme.test", "ACME_SHOP_BASE": "https://{ACME_SHOP}/api/"},
)


class Scripted(Client):
    """A client that gives prepared answers, each taking ``takes`` seconds."""

    def __init__(self, *answers: Response, takes: float = 0.0) -> None:
        super().__init__()
        self.answers = list(answers)
        self.takes = takes
        self.timeouts: list[float] = []

    def request(self, method: str, url: str, **options: Any) -> Response:
        self.timeouts.append(options["timeout"])
        time.sleep(self.takes)
        return self.answers.pop(0)


def good(body: bytes = b"{}") -> Response:
    return Response(200, Headers(), body, Timings(total_ms=5.0))


def context(client: Client | None = None, timeout: float = 5, **variables: str) -> ProbeContext:
    return ProbeContext(http=client or Scripted(), timeout=timeout, now=NOW, variables=variables)


@conversation(ACME)
def two_calls(talk: Talk) -> ProbeOutcome:
    talk.ask("GET", "https://api.acme.test/1")
    talk.ask("GET", "https://api.acme.test/2")
    return talk.healthy("both")


def test_the_calls_of_a_probe_share_one_deadline() -> None:
    client = Scripted(good(), good(), takes=0.1)
    outcome = two_calls(context(client, timeout=5))
    assert outcome.outcome == Outcome.HEALTHY
    assert outcome.timings.total_ms == 10.0
    assert client.timeouts[0] <= 5
    assert client.timeouts[1] <= client.timeouts[0] - 0.1


def test_no_call_is_begun_after_the_deadline() -> None:
    client = Scripted(good(), good(), takes=0.05)
    outcome = two_calls(context(client, timeout=0.02))
    assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.TIMEOUT_ERROR)
    assert len(client.timeouts) == 1


def test_an_answer_that_was_cut_is_not_the_vendor_s() -> None:
    cut = Response(200, Headers(), b"[]", Timings(), truncated=True)
    assert two_calls(context(Scripted(cut))).category == Category.VALIDATION_ERROR


def test_a_base_url_may_be_overridden_or_made_of_another_variable() -> None:
    assert Talk(context(), ACME).base("ACME_API_BASE") == "https://api.acme.test"
    assert Talk(context(ACME_API_BASE="http://127.0.0.1:9/acme/"), ACME).base("ACME_API_BASE") == (
        "http://127.0.0.1:9/acme"
    )
    assert Talk(context(ACME_SHOP="a.test"), ACME).base("ACME_SHOP_BASE") == "https://a.test/api"
    with pytest.raises(NotConfigured) as caught:
        Talk(context(), ACME).base("ACME_SHOP_BASE")
    assert caught.value.variables == ("ACME_SHOP",)


def test_details_and_messages_hide_what_the_vendor_handed_out() -> None:
    talk = Talk(context(ACME_KEY="planted-key-1"), ACME)
    talk.secrets.append("planted-token-2")
    outcome = talk.healthy("fine", key="it is planted-key-1", token_seen=["planted-token-2"])
    assert "planted" not in str(outcome)


def test_every_absent_variable_is_named_once_and_in_order() -> None:
    probe = needing(two_calls, ("A", "B"), (("C",), ("D", "E")))
    cases: list[tuple[dict[str, Any], tuple[str, ...]]] = [
        ({}, ("A", "B", "C")),
        ({"A": "1", "D": "1"}, ("B", "E")),
        ({"A": "1", "B": "", "C": "1"}, ("B",)),
    ]
    for given, named in cases:
        with pytest.raises(NotConfigured) as caught:
            probe(context(**given))
        assert caught.value.variables == named
    assert probe(context(Scripted(good(), good()), A="1", B="1", D="1", E="1")).outcome == Outcome.HEALTHY


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": {"code": 190, "message": "m"}}, Complaint("190", "m")),
        ({"error": {"type": "t", "message": "m"}}, Complaint("t", "m")),
        ({"error": {"message": 5}}, None),
        ({"error": "text"}, None),
        ([], None),
    ],
)
def test_an_error_is_only_taken_in_the_vendor_s_shape(body: Any, expected: Complaint | None) -> None:
    assert under_error(body) == expected


def test_a_token_endpoint_s_description_is_kept_to_its_first_line() -> None:
    body = {"error": "invalid_client", "error_description": "AADSTS1: no\r\nTrace ID: 5"}
    assert oauth_complaint(body) == Complaint("invalid_client", "AADSTS1: no")
    assert oauth_complaint({"error": "x", "error_description": ""}) == Complaint("x", "")


def test_the_token_store_does_not_grow_without_end() -> None:
    oauth._kept.clear()
    token = oauth.Token("t", time.monotonic() + 3600, NOW)
    for number in range(oauth.LARGEST * 2):
        oauth.kept(Talk(context(), ACME), (str(number),), lambda: token)
    assert len(oauth._kept) <= oauth.LARGEST
    assert all(len(key) == 64 for key in oauth._kept), "kept under a hash, not under the credential"
    oauth._kept.clear()


VENDORS = [name for name in providers.names() if not providers.get(name).generic and providers.get(name).kinds]


@pytest.mark.parametrize("slug", VENDORS)
def test_every_vendor_is_declared_in_full(slug: str) -> None:
    provider = providers.get(slug)
    assert provider.slug == slug
    assert provider.label
    assert provider.docs_url.startswith("https://")
    assert set(provider.kinds) == {"connectivity", "authentication", "functionality"}
    known = {variable.name for variable in provider.variables} | set(provider.base_urls)
    for kind in provider.kinds.values():
        assert set(kind.needs) <= known
        assert kind.default_timeout < kind.default_interval
        assert kind.options.model_config["extra"] == "forbid"
    assert all(url.startswith(("https://", "{")) for url in provider.base_urls.values())
    assert any(variable.secret for variable in provider.variables)
    if provider.status_page:
        assert provider.status_page.url.startswith("https://")


def test_all_thirteen_vendors_are_there() -> None:
    assert len(VENDORS) == 13
