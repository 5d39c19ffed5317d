"""Nothing that is a secret, or looks like one, gets through."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsmon.redact import MASK, forget, redact, redact_json, remember

SECRET = "p@ss/w+rd é\"x'9"


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        quote(SECRET, safe="").lower(),
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
        repr(SECRET),
        SECRET.encode().hex(),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(b"user:" + SECRET.encode()).decode(),
        base64.b64encode(b"u:" + SECRET.encode()).decode(),
        base64.b64encode(b"a:" + SECRET.encode() + b":b").decode(),
    ],
)
def test_a_known_secret_is_masked_in_every_form(shown: str) -> None:
    masked = redact(f"it said {shown} twice: {shown}", [SECRET])
    core = shown.strip("\"'=")[6:-4]
    assert core not in masked
    assert MASK in masked


@settings(deadline=None)
@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=6, max_size=40), st.text(max_size=20)
)
def test_a_known_secret_never_remains(secret: str, around: str) -> None:
    if secret.strip("*") and secret not in around:
        text = redact(f"{around}\n{secret}\n{around}", [secret])
        assert secret not in text.replace(around, "") or set(secret) <= set("* \n")


def test_of_two_secrets_the_longer_is_masked_whole() -> None:
    assert redact("hunter2-and-more", ["hunter2-and-more", "hunter2"]) == MASK


def test_words_are_not_taken_for_secrets() -> None:
    assert redact("the us east region", ["us", "", "the"]) == "the us east region"


def test_remembered_secrets_are_masked_everywhere() -> None:
    assert redact("value abcd-1234") == "value abcd-1234"
    remember("abcd-1234")
    remember("abcd-1234")
    assert redact("value abcd-1234") == f"value {MASK}"
    assert redact_json({"a": ["abcd-1234"]}) == {"a": [MASK]}


def test_short_words_are_not_remembered() -> None:
    remember("admin")
    assert redact("GET /admin/") == "GET /admin/"


def test_the_registry_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsmon.redact._REMEMBERED_AT_MOST", 2)
    for secret in ("secret-1", "secret-2", "secret-3"):
        remember(secret)
    assert redact("secret-1 secret-3") == f"secret-1 {MASK}"


# Built of parts, so that no scanner of this repository takes them for real ones.
SHAPES = [
    "sk_live" + "_51H8abcdefghijkl",
    "sk_test" + "_51H8abcdefghijkl",
    "rk_live" + "_51H8abcdefghijkl",
    "whsec" + "_MfKQ9r8GKYqrTwjU",
    "re" + "_123abcDEF456ghi",
    "SG" + ".ngeVfQFYQlKU0ufo8x5d1A.TwL2iGABf9DHoTf-09kqeF8tAmbihYz",
    "xoxb" + "-123456789012-abcdefABCDEF",
    "xapp" + "-1-A0123-456-abcdef",
    "shpat" + "_0123456789abcdef0123456789abcdef",
    "ghp" + "_0123456789abcdefghijABCDEFGHIJ012345",
    "github_pat" + "_11ABCDEFG0abcdef_ghijkl",
    "sb_secret" + "_abcdefghijkl",
    "EAA" + "GabcdefghijklmnopqrstuvwxyzZ",
    "ya29" + ".a0AfH6SMBabcdef",
    "AIza" + "SyA1234567890abcdefghijklmnopqrstuv",
    "AKIA" + "IOSFODNN7EXAMPLE",
    "GOCSPX" + "-abcdefghijkl",
    "1//0" + "gabcdefghijklmnopqrstuvwx",
    "eyJ" + "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcDEF123",
]


@pytest.mark.parametrize("secret", SHAPES)
@pytest.mark.parametrize("around", ["{}", "key {}.", '"{}"', "(got {}, wanted other)", "a\n{}\nb"])
def test_well_known_shapes_are_masked(secret: str, around: str) -> None:
    masked = redact(around.format(secret))
    assert secret[-8:] not in masked
    assert MASK in masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://user:pa@ss@h.example/x", "https://***@h.example/x"),
        ("postgres://wsmon:hunter2@db/x", "postgres://***@db/x"),
        ("GET /x?apikey=abc&x=1&token=def#f", "GET /x?apikey=***&x=1&token=***#f"),
        ("?access_token=a.b-c&X-Amz-Signature=99ff", "?access_token=***&X-Amz-Signature=***"),
        ("?sig=a&signature=b&key=c&client_secret=d", "?sig=***&signature=***&key=***&client_secret=***"),
        ("password=hunter2", "password=***"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("{'Authorization': 'Basic dXNlcjpwYXNz'}", "{'Authorization': 'Basic ***'}"),
        ('{"password": "two words", "a": 1}', '{"password": "***", "a": 1}'),
        ("x-api-key: abc, other: 1", "x-api-key: ***, other: 1"),
        ("Set-Cookie: session=abc; Path=/", "Set-Cookie: ***; Path=/"),
        ("sent Bearer abcdef123", "sent Bearer ***"),
        ("https://hooks.slack.com/services/T0/B0/abc", "https://hooks.slack.com/services/***"),
    ],
)
def test_places_where_secrets_stand_are_masked(text: str, masked: str) -> None:
    assert redact(text) == masked


def test_private_keys_are_masked_whole_or_cut() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----"
    assert redact(f"a {key} b") == f"a {MASK} b"
    assert "MIIE" not in redact(key[:40])


@pytest.mark.parametrize(
    "text",
    [
        "401 with Stripe's error shape: reachable",
        "timed out after 5 s waiting for the first byte",
        "the certificate expires in 9 days",
        "Basic authentication is required",
        "https://example.com/path?page=2&sort=name",
        "answered 200",
        "bearer token expected",
        "",
    ],
)
def test_ordinary_messages_are_left_alone(text: str) -> None:
    assert redact(text) == text


def test_json_is_masked_at_every_depth() -> None:
    value = {
        "account": "acct_1",
        "nested": [{"password": "abc", "list": ("hunter2-x", 1, None, True, 1.5)}],
        "api_key": "short",
        "token": None,
        "count": 3,
        "hunter2-x": "as a key",
    }
    assert redact_json(value, ["hunter2-x"]) == {
        "account": "acct_1",
        "nested": [{"password": MASK, "list": [MASK, 1, None, True, 1.5]}],
        "api_key": MASK,
        "token": None,
        "count": 3,
        MASK: "as a key",
    }


def test_json_that_is_none_and_json_without_end_are_survived() -> None:
    deep: list[object] = []
    deep.append(deep)
    assert MASK in str(redact_json(deep))
    assert redact_json({"at": object}, ["x"])["at"] == str(object)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "piece",
    ["a", "key", "=", "://", "://@", "eyJ", "-eyJ", "SG.-", "-----BEGIN ", "x-", "cookie ", "Basic ", "a.b-", '"'],
)
def test_patterns_do_not_backtrack_for_minutes(piece: str) -> None:
    assert redact(piece * (200_000 // len(piece)), ["not-in-there"])
