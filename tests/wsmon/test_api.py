"""The frame of the API: who may call, how errors look, and its own documentation."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

import pytest
import requests
from django.db import OperationalError
from django.test import Client
from pytest_django.live_server_helper import LiveServer

from tests.callers import person, program, token, with_token
from wsmon import api, api_docs, tokens
from wsmon.audit import Actor
from wsmon.models import ApiToken

HEALTH = "/api/admin/integrations/health"
TEST = "/api/admin/integrations/test/stripe"
READ = "monitoring:read"

pytestmark = pytest.mark.django_db


def problem(response: Any, status: int) -> dict[str, Any]:
    """The problem document of an answer, checked as RFC 9457 has it."""
    assert response.status_code == status
    assert response["Content-Type"] == "application/problem+json"
    assert response["Cache-Control"] == "no-store"
    found: dict[str, Any] = json.loads(response.content)
    assert found["type"] == "about:blank"
    assert found["status"] == status
    assert found["title"]
    assert found["detail"]
    return found


class TestWhoMayCall:
    """Tokens with a scope, staff with a permission, nobody else."""

    def test_it_asks_a_stranger_to_authenticate(self) -> None:
        response = Client().get(HEALTH)
        problem(response, 401)
        assert response["WWW-Authenticate"] == 'Bearer realm="wsmon"'

    @pytest.mark.parametrize(
        "header",
        ["Bearer", "Bearer ", "Bearer wsm_wrong", "Basic dXNlcjpwYXNz", "wsm_wrong", "", "Bearer \x00", "Bearer é"],
    )
    def test_it_refuses_a_wrong_token(self, header: str) -> None:
        response = Client(headers={"authorization": header}).get(HEALTH)
        problem(response, 401)
        assert 'error="invalid_token"' in response["WWW-Authenticate"]

    def test_it_refuses_a_wrong_token_even_from_somebody_logged_in(self) -> None:
        client = person("monitoring.view_service")
        problem(client.get(HEALTH, headers={"authorization": "Bearer wsm_wrong"}), 401)

    def test_it_takes_the_scheme_in_any_case(self) -> None:
        text = token(READ)
        assert Client(headers={"authorization": f"bearer  {text}"}).get(HEALTH).status_code == 200

    def test_it_refuses_a_revoked_token(self) -> None:
        text = token(READ)
        client = with_token(text)
        assert client.get(HEALTH).status_code == 200
        tokens.revoke(ApiToken.objects.get(), Actor.system("test"))
        problem(client.get(HEALTH), 401)

    def test_it_names_the_scope_that_a_token_lacks(self) -> None:
        response = program("webhooks:read", "monitoring:admin").get(HEALTH)
        assert READ in problem(response, 403)["detail"]
        assert 'error="insufficient_scope"' in response["WWW-Authenticate"]

    def test_it_notes_when_a_token_was_used(self) -> None:
        program(READ).get(HEALTH)
        assert ApiToken.objects.get().last_used_at is not None

    def test_it_lets_staff_with_the_permission_in(self) -> None:
        assert person("monitoring.view_service").get(HEALTH).status_code == 200

    def test_it_names_the_permission_that_a_person_lacks(self) -> None:
        assert "monitoring.view_service" in problem(person().get(HEALTH), 403)["detail"]

    def test_it_lets_nobody_in_who_is_not_staff(self) -> None:
        client = person("monitoring.view_service", is_staff=False)
        assert "staff" in problem(client.get(HEALTH), 403)["detail"]

    def test_it_lets_no_disabled_account_in(self) -> None:
        problem(person("monitoring.view_service", is_active=False).get(HEALTH), 401)

    def test_it_takes_no_token_from_the_query_or_a_cookie(self) -> None:
        text = token(READ)
        client = Client()
        client.cookies["sessionid"] = text
        problem(client.get(f"{HEALTH}?token={text}&access_token={text}"), 401)


class TestCsrf:
    """A session counts for unsafe methods only with the CSRF token; API tokens need none."""

    body: dict[str, Any] = {"data": {"test_type": "connectivity"}, "content_type": "application/json"}

    def test_it_refuses_a_session_without_it(self) -> None:
        client = person("monitoring.operate", csrf=True)
        assert "CSRF" in problem(client.post(TEST, **self.body), 403)["detail"]

    def test_it_takes_a_session_with_it(self) -> None:
        client = person("monitoring.operate", csrf=True)
        client.get("/login/?next=/")
        secret = "a" * 32
        client.cookies["csrftoken"] = secret
        problem(client.post(TEST, headers={"x-csrftoken": secret}, **self.body), 404)

    def test_it_needs_none_for_reading(self) -> None:
        assert person("monitoring.view_service", csrf=True).get(HEALTH).status_code == 200

    def test_it_needs_none_with_a_token(self) -> None:
        client = Client(enforce_csrf_checks=True, headers={"authorization": f"Bearer {token('monitoring:admin')}"})
        problem(client.post(TEST, **self.body), 404)


class TestErrors:
    """Every error is a problem document, and tells nothing of the inside."""

    @pytest.mark.parametrize(
        "path",
        ["/api/", "/api/nope", "/api/admin", "/api/admin/integrations/health/", "/api/admin/integrations/nope"],
    )
    @pytest.mark.parametrize("method", ["get", "post", "delete", "options"])
    def test_it_knows_no_other_paths(self, path: str, method: str) -> None:
        problem(getattr(Client(), method)(path), 404)

    @pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options"])
    def test_it_says_which_methods_are_allowed(self, method: str) -> None:
        response = getattr(program(READ), method)(HEALTH)
        problem(response, 405)
        assert response["Allow"] == "GET, HEAD"

    def test_it_answers_head_like_get(self) -> None:
        response = program(READ).head(HEALTH)
        assert (response.status_code, response.content) == (200, b"")
        assert response["Content-Type"].startswith("application/json")

    def test_it_answers_a_request_for_an_unknown_host(self, settings: Any) -> None:
        settings.ALLOWED_HOSTS = ["wsmon.example.com"]
        response = Client().get(HEALTH, headers={"host": "evil.example.com"})
        assert (response.status_code, response["Content-Type"]) == (400, "application/problem+json")
        assert b"evil" not in response.content
        assert Client().get("/", headers={"host": "evil.example.com"})["Content-Type"].startswith("text/html")

    def test_it_answers_when_a_middleware_fails(self) -> None:
        client = Client(raise_request_exception=False)
        for path, content_type in [(HEALTH, "application/problem+json"), ("/", "text/html; charset=utf-8")]:
            with mock.patch("django.http.HttpRequest.get_host", side_effect=RuntimeError("db.internal")):
                response = client.get(path)
            assert (response.status_code, response["Content-Type"]) == (500, content_type)
            assert b"internal" not in response.content

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ("{", 400),
            ("", 422),
            ("\xff", 400),
            ("[]", 422),
            ("null", 422),
            ('"x"', 422),
            ("{}", 422),
            ("1" * 5000, 400),
        ],
    )
    def test_it_refuses_a_body_that_is_not_what_it_should_be(self, body: str, status: int) -> None:
        client = program("monitoring:admin")
        problem(client.post(TEST, body.encode("latin-1"), content_type="application/json"), status)

    def test_it_refuses_a_body_that_is_too_large(self, settings: Any) -> None:
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
        client = program("monitoring:admin")
        problem(client.post(TEST, b"x" * 1001, content_type="application/json"), 413)

    def test_it_keeps_an_exception_to_itself(self) -> None:
        secret = RuntimeError("postgresql://wsmon:hunter2@db.internal/ at /srv/wsmon/monitoring/api.py")
        with mock.patch("monitoring.api_reads.totals", side_effect=secret):
            response = program(READ).get(HEALTH)
        found = problem(response, 500)
        assert found["request_id"] == response["X-Request-ID"]
        for word in ("hunter2", "internal", "RuntimeError", "Traceback", "/srv", "monitoring/api"):
            assert word not in response.content.decode()

    def test_it_says_to_try_again_when_the_database_is_away(self) -> None:
        with mock.patch("monitoring.api_reads.totals", side_effect=OperationalError("db.internal refused")):
            response = program(READ).get(HEALTH)
        problem(response, 503)
        assert response["Retry-After"] == "5"
        assert b"internal" not in response.content

    def test_it_answers_a_database_that_is_away_while_authenticating(self) -> None:
        with mock.patch("wsmon.tokens.verify", side_effect=OperationalError("db.internal refused")):
            problem(Client(headers={"authorization": "Bearer wsm_x"}).get(HEALTH), 503)


class TestThrottling:
    """So many calls of one caller a minute."""

    def test_it_limits_each_token_by_itself(self, settings: Any) -> None:
        settings.API_REQUESTS_PER_MINUTE = 3
        one, other = program(READ), program(READ)
        assert [one.get(HEALTH).status_code for _ in range(4)] == [200, 200, 200, 429]
        assert other.get(HEALTH).status_code == 200
        response = one.get(HEALTH)
        problem(response, 429)
        assert 1 <= int(response["Retry-After"]) <= 20

    def test_it_limits_each_person(self, settings: Any) -> None:
        settings.API_REQUESTS_PER_MINUTE = 2
        client = person("monitoring.view_service")
        assert [client.get(HEALTH).status_code for _ in range(3)] == [200, 200, 429]

    def test_it_stops_listening_to_an_address_that_guesses_tokens(self, settings: Any) -> None:
        settings.API_WRONG_TOKENS_PER_MINUTE = 3
        guesser = Client(headers={"authorization": "Bearer wsm_guess"})
        assert [guesser.get(HEALTH).status_code for _ in range(4)] == [401, 401, 401, 429]
        assert guesser.get(HEALTH, REMOTE_ADDR="203.0.113.9").status_code == 401
        assert Client().get(HEALTH).status_code == 401

    def test_nobody_is_shut_out_by_another_who_guesses_from_the_same_address(self, settings: Any) -> None:
        settings.API_WRONG_TOKENS_PER_MINUTE = 1
        guesser = Client(headers={"authorization": "Bearer wsm_guess"})
        assert [guesser.get(HEALTH).status_code for _ in range(2)] == [401, 429]
        assert Client(headers={"authorization": f"Bearer {token(READ)}"}).get(HEALTH).status_code == 200


class TestItsDocumentation:
    """The OpenAPI document and the page made of it."""

    def test_it_is_not_for_strangers(self) -> None:
        problem(Client().get("/api/openapi.json"), 401)
        response = Client().get("/api/docs")
        assert (response.status_code, response["Location"]) == (302, "/login/?next=/api/docs")

    @pytest.mark.parametrize("scope", sorted(tokens.SCOPES))
    def test_any_token_may_read_the_document(self, scope: str) -> None:
        document = program(scope).get("/api/openapi.json").json()
        assert document["openapi"].startswith("3.")
        assert HEALTH in document["paths"]

    def test_it_declares_every_way_to_fail_and_who_may_call(self) -> None:
        document = api.document()
        operation = document["paths"]["/api/admin/integrations/test/{service}"]["post"]
        assert set(operation["responses"]) == {200, 400, 401, 403, 404, 405, 409, 413, 422, 429, 500, 503}
        assert operation["security"] == [{"Bearer": ["monitoring:admin"]}, {"Session": []}]
        for status, answer in operation["responses"].items():
            media = "application/json" if status == 200 else "application/problem+json"
            assert list(answer["content"]) == [media]

    def test_every_value_of_it_is_described_and_every_answer_has_an_example(self) -> None:
        for operation in api_docs.operations(api.document()):
            assert operation.summary
            assert operation.description
            assert operation.scope in tokens.SCOPES
            assert operation.permission
            assert operation.example
            assert all(parameter.description for parameter in operation.parameters)

    def test_its_page_shows_every_operation_without_a_script_of_its_own(self) -> None:
        response = person("monitoring.view_service").get("/api/docs")
        assert response.status_code == 200
        text = response.content.decode()
        for path in api.document()["paths"]:
            assert path in text
        assert "monitoring:admin" in text
        assert 'style="' not in text
        assert "unsafe-inline" not in response["Content-Security-Policy"]


@pytest.mark.django_db(transaction=True)
class TestOverHttp:
    """The same through a real server."""

    def test_it_answers_json_to_a_token(self, live_server: LiveServer) -> None:
        headers = {"Authorization": f"Bearer {token(READ)}"}
        answer = requests.get(live_server.url + HEALTH, headers=headers, timeout=10)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("application/json")
        assert answer.json()["services"] == []

    def test_it_never_redirects_to_the_login_page(self, live_server: LiveServer) -> None:
        for method, path, status in [
            ("GET", HEALTH, 401),
            ("POST", TEST, 401),
            ("GET", "/api/nope", 404),
            ("DELETE", HEALTH, 405),
            ("GET", "/api/openapi.json", 401),
        ]:
            answer = requests.request(method, live_server.url + path, timeout=10, allow_redirects=False)
            assert answer.status_code == status
            assert answer.headers["Content-Type"] == "application/problem+json"
