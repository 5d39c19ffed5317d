"""GitHub's webhooks, and its own list of deliveries."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
import responses

from providers import github
from providers.base import NotConfigured
from providers.hooks import Unlisted
from tests.providers.hooks_contract import HooksContract, changed, fixture
from wsmon.http import Client

SINCE = datetime(2026, 10, 31, tzinfo=UTC)
TOKEN = {"GITHUB_TOKEN": "ghp_planted0123456789"}
OPTIONS = github.HookOptions(repository="studio/ops", hook_id=7)
URL = "https://api.github.com/repos/studio/ops/hooks/7/deliveries"

BROKEN: list[dict[str, Any]] = [
    {"status": 404, "json": {"message": "Not Found"}},
    {"body": "<html>"},
    {"body": requests.ConnectionError()},
]


class TestGitHubHooks(HooksContract):
    slug = "github"
    secret = "planted-secret-0123456789"
    other = "another-secret-0123456789"
    sample = fixture("github", "pull_request")
    past = None
    required = ("x-hub-signature-256",)

    def headers(self, body: bytes, secret: str, at: int) -> dict[str, str]:
        return {
            "x-hub-signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
            "x-github-event": "pull_request",
            "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        }

    def test_it_reads_event_action_and_subject(self) -> None:
        (found,) = self.events()
        assert found.key == "72d3162e-cc78-11e3-81ab-4c9367dc0958"
        assert found.type == "pull_request.opened"
        assert found.subject == "studio/ops#12"
        assert found.occurred_at == datetime(2026, 10, 31, 11, 59, 50, tzinfo=UTC)

    def test_a_ping_is_an_ordinary_event(self) -> None:
        inbound = changed(self.request(b'{"zen": "Design for failure.", "hook_id": 7}'), x_github_event="ping")
        self.verify(inbound)
        assert self.read(inbound)[0].type == "ping"

    def test_a_form_is_signed_and_read_as_well(self) -> None:
        body = urlencode({"payload": self.sample.decode()}).encode()
        inbound = changed(self.request(body), content_type="application/x-www-form-urlencoded")
        self.verify(inbound)
        assert self.read(inbound)[0].subject == "studio/ops#12"

    def test_sha1_is_not_enough(self) -> None:
        inbound = self.request()
        digest = hmac.new(self.secret.encode(), inbound.body, hashlib.sha1).hexdigest()
        only_sha1 = changed(inbound, x_hub_signature_256=None, x_hub_signature=f"sha1={digest}")
        assert self.refusal(only_sha1).code == "signature_missing"

    def test_a_workflow_run_has_its_time(self) -> None:
        inbound = changed(self.request(fixture("github", "workflow_run")), x_github_event="workflow_run")
        (found,) = self.read(inbound)
        assert found.type == "workflow_run.completed"
        assert found.subject == "studio/ops"
        assert found.occurred_at is not None


def _row(number: int, guid: str, day: int = 31) -> dict[str, Any]:
    return {"id": number, "guid": guid, "delivered_at": f"2026-10-{day:02}T10:00:00Z", "event": "ping"}


def _delivery(guid: str) -> dict[str, Any]:
    headers = {"X-GitHub-Event": "pull_request", "X-GitHub-Delivery": guid, "X-Hub-Signature-256": "sha256=00"}
    return {"request": {"headers": headers, "payload": json.loads(fixture("github", "pull_request"))}}


def test_missed_deliveries_are_listed_once_each_with_their_bodies() -> None:
    with responses.RequestsMock() as stub:
        link = {"Link": f'<{URL}?per_page=100&cursor=v1_2>; rel="next"'}
        rows = [_row(5, "guid-a"), _row(4, "guid-known"), _row(3, "guid-a")]
        stub.get(f"{URL}?per_page=100", json=rows, headers=link)
        stub.get(f"{URL}?per_page=100&cursor=v1_2", json=[_row(2, "guid-b"), _row(1, "guid-old", day=30)])
        stub.get(f"{URL}/5", json=_delivery("guid-a"))
        stub.get(f"{URL}/2", json=_delivery("guid-b"))
        missed = list(github.missed(Client(), TOKEN, OPTIONS, SINCE, 5.0, known=lambda key: key == "guid-known"))
    assert [found.key for found, _, _ in missed] == ["guid-a", "guid-b"]
    found, headers, body = missed[0]
    assert (found.type, found.subject) == ("pull_request.opened", "studio/ops#12")
    assert json.loads(body)["number"] == 12
    assert headers["x-github-event"] == "pull_request"
    assert not any("signature" in name for name in headers)


def test_the_token_is_sent_to_github_only() -> None:
    with responses.RequestsMock() as stub:
        link = {"Link": '<https://elsewhere.test/deliveries>; rel="next"'}
        stub.get(f"{URL}?per_page=100", json=[], headers=link)
        assert list(github.missed(Client(), TOKEN, OPTIONS, SINCE, 5.0)) == []


@pytest.mark.parametrize("answer", BROKEN, ids=str)
def test_a_list_that_cannot_be_read_is_told_without_the_token(answer: dict[str, Any]) -> None:
    with responses.RequestsMock() as stub:
        stub.get(f"{URL}?per_page=100", **answer)
        with pytest.raises(Unlisted) as caught:
            list(github.missed(Client(), TOKEN, OPTIONS, SINCE, 5.0))
    assert TOKEN["GITHUB_TOKEN"] not in str(caught.value)


def test_odd_rows_are_passed_over() -> None:
    with responses.RequestsMock() as stub:
        rows = [None, {}, {"id": "x", "guid": "g"}, {"id": 1, "guid": None, "delivered_at": 3}, _row(9, "guid-z")]
        stub.get(f"{URL}?per_page=100", json=rows)
        stub.get(f"{URL}/1", json={"request": None})
        stub.get(f"{URL}/9", json={"request": {"headers": [], "payload": {"action": "x"}}})
        missed = list(github.missed(Client(), TOKEN, OPTIONS, SINCE, 5.0))
    assert "guid-z" in [found.key for found, _, _ in missed]


def test_what_is_not_set_is_named() -> None:
    with pytest.raises(NotConfigured):
        list(github.missed(Client(), {}, OPTIONS, SINCE, 5.0))
    with pytest.raises(Unlisted, match="repository and hook_id"):
        list(github.missed(Client(), TOKEN, github.HookOptions(), SINCE, 5.0))
