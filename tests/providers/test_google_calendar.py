"""Google Calendar."""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64decode
from functools import cache
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from providers.base import NotConfigured
from tests.providers.contract import NOW, Reply, VendorContract, World, planted
from wsmon.vocabulary import Category, Outcome

TOKEN_URL = r"https://oauth2\.googleapis\.com/token$"
REFRESH = ("GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_SECRET", "GOOGLE_REFRESH_TOKEN")


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def key_file(**changed: str) -> str:
    """A service account's key as Google hands it out."""
    account = {
        "type": "service_account",
        "client_email": "probe@weddings.iam.gserviceaccount.com",
        "private_key_id": "k1",
        "private_key": pem(rsa_key()),
        "token_uri": "https://evil.example.com/token",
    }
    return json.dumps(account | changed)


class TestGoogleCalendar(VendorContract):
    slug = "google_calendar"
    variables = {
        "GOOGLE_CLIENT_ID": "client.apps.googleusercontent.com",
        "GOOGLE_CLIENT_SECRET": planted("GOCSPX-"),
        "GOOGLE_REFRESH_TOKEN": planted("1//"),
    }
    routes = [
        ("POST", TOKEN_URL, Reply(200, "token")),
        ("GET", r"/users/me/calendarList\?", Reply(200, "calendar_list")),
        ("GET", r"/calendars/[^/]+/events\?", Reply(200, "events")),
        ("GET", r"/users/me/calendarList$", Reply(401, "anonymous")),
    ]
    always = r"/token"
    anonymous = Reply(401, "anonymous")
    refused = Reply(401, "refused")
    forbidden = Reply(403, "forbidden")
    limited = Reply(403, "limited")
    missing = {
        "authentication": ("GOOGLE_APPLICATION_CREDENTIALS",),
        "functionality": ("GOOGLE_APPLICATION_CREDENTIALS",),
    }
    tokens_of_others: ClassVar[tuple[str, ...]] = ("ya29.planted-access-token-0001",)

    def service_account(self, world: World, given: str, **more: str) -> tuple[Outcome, Category | None, str]:
        variables = {"GOOGLE_APPLICATION_CREDENTIALS": given} | more
        outcome = self.probe("authentication", world, variables)
        assert "PRIVATE" not in str(outcome)
        return outcome.outcome, outcome.category, outcome.message

    def test_it_shows_the_calendar_but_no_event(self) -> None:
        world = self.healthy_world()
        outcome = self.probe("functionality", world, calendar_id="team@group.calendar.google.com")
        assert outcome.details["calendar"] == "Weddings"
        assert outcome.details["time_zone"] == "Europe/Berlin"
        assert outcome.details["grant"] == "refresh token"
        assert outcome.details["token_expires_at"] == "2026-11-21T12:59:59+00:00"
        assert "/calendars/team%40group.calendar.google.com/events" in (world.asked[-1].url or "")
        assert "items" not in (world.asked[-1].url or "")

    def test_a_revoked_consent_says_what_to_do(self) -> None:
        world = World("google_calendar", [("POST", TOKEN_URL, Reply(400, "invalid_grant"))])
        outcome = self.probe("authentication", world)
        assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.AUTHENTICATION_ERROR)
        assert "invalid_grant" in outcome.message
        assert "consent again" in outcome.message

    def test_a_token_is_kept_for_the_next_probe(self) -> None:
        world = self.healthy_world()
        self.probe("authentication", world)
        self.probe("functionality", world)
        assert [request.method for request in world.asked] == ["POST", "GET", "GET"]

    def test_another_credential_gets_a_token_of_its_own(self) -> None:
        world = self.healthy_world()
        self.probe("authentication", world)
        self.probe("authentication", world, self.variables | {"GOOGLE_REFRESH_TOKEN": "1//other"})
        assert [request.method for request in world.asked] == ["POST", "GET", "POST", "GET"]

    def test_a_token_about_to_end_is_not_used(self) -> None:
        token = {"access_token": "ya29.short", "expires_in": 100}
        world = World("google_calendar", [("POST", TOKEN_URL, Reply(200, token)), *self.routes[1:]])
        self.probe("authentication", world)
        self.probe("authentication", world)
        assert [request.method for request in world.asked] == ["POST", "GET", "POST", "GET"]

    def test_a_refused_token_is_thrown_away(self) -> None:
        self.probe("authentication", self.world(self.refused))
        world = self.healthy_world()
        self.probe("authentication", world)
        assert [request.method for request in world.asked] == ["POST", "GET"]

    @pytest.mark.parametrize("status", [500, 503])
    def test_a_token_endpoint_that_fails_is_their_failure(self, status: int) -> None:
        world = World("google_calendar", [("POST", TOKEN_URL, Reply(status, b"<html>"))])
        outcome = self.probe("authentication", world)
        assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.SERVER_ERROR)

    def test_a_calendar_that_does_not_exist_is_our_mistake(self) -> None:
        world = World("google_calendar", [("GET", "/events", Reply(404, "not_found")), *self.routes])
        outcome = self.probe("functionality", world)
        assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.CLIENT_ERROR)

    def test_half_of_a_refresh_credential_names_the_rest(self) -> None:
        with pytest.raises(NotConfigured) as caught:
            self.probe("authentication", self.healthy_world(), {"GOOGLE_CLIENT_ID": "c"})
        assert caught.value.variables == REFRESH[1:]

    # Service accounts

    def test_a_service_account_signs_its_request(self, tmp_path: Path) -> None:
        path = tmp_path / "key.json"
        path.write_text(key_file())
        world = self.healthy_world()
        assert self.service_account(world, str(path))[0] == Outcome.HEALTHY
        assert world.asked[0].url == "https://oauth2.googleapis.com/token"
        form = parse_qs((world.asked[0].body or b"").decode())  # type: ignore[union-attr]
        assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
        header, claims, signature = form["assertion"][0].split(".")
        rsa_key().public_key().verify(_decode(signature), f"{header}.{claims}".encode(), PKCS1v15(), SHA256())
        assert json.loads(_decode(header)) == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
        told = json.loads(_decode(claims))
        assert told["iss"] == "probe@weddings.iam.gserviceaccount.com"
        assert told["aud"] == "https://oauth2.googleapis.com/token"
        assert told["exp"] - told["iat"] == 3600
        assert told["iat"] == int(NOW.timestamp())
        assert told["scope"].endswith("calendar.readonly")

    def test_a_service_account_may_act_for_a_user(self) -> None:
        world = self.healthy_world()
        self.service_account(world, key_file(), GOOGLE_SUBJECT="planner@example.com")
        form = parse_qs((world.asked[0].body or b"").decode())  # type: ignore[union-attr]
        assert json.loads(_decode(form["assertion"][0].split(".")[1]))["sub"] == "planner@example.com"

    @pytest.mark.parametrize(
        "given",
        [
            "/no/such/file.json",
            "/etc",
            "{not json",
            "[]",
            "\x00",
            json.dumps({"client_email": "a@b"}),
            key_file(private_key="-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n"),
            key_file(private_key=pem(ec.generate_private_key(ec.SECP256R1()))),
        ],
        ids=["no file", "a directory", "no JSON", "a list", "a NUL", "no key", "a broken key", "an EC key"],
    )
    def test_a_bad_key_file_is_our_mistake(self, given: str) -> None:
        found = self.service_account(self.healthy_world(), given)
        assert found[:2] == (Outcome.ERROR, Category.CONFIGURATION_ERROR), found

    def test_a_key_file_that_is_a_pipe_or_too_large_is_refused_at_once(self, tmp_path: Path) -> None:
        pipe, large = tmp_path / "pipe", tmp_path / "large.json"
        os.mkfifo(pipe)
        large.write_text(key_file() + " " * 65_536)
        for path in (pipe, large):
            outcome, category, message = self.service_account(self.healthy_world(), str(path))
            assert (outcome, category) == (Outcome.ERROR, Category.CONFIGURATION_ERROR)
            assert "names no readable JSON key file" in message

    def test_a_deleted_key_says_what_to_do(self) -> None:
        reply = Reply(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
        world = World("google_calendar", [("POST", TOKEN_URL, reply)])
        outcome, category, message = self.service_account(world, key_file())
        assert (outcome, category) == (Outcome.ERROR, Category.AUTHENTICATION_ERROR)
        assert "make a new key" in message


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
