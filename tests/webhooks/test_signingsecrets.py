"""Which secrets wsmon signs with, and what key each of them means."""

from __future__ import annotations

import base64

import pytest
from standardwebhooks.webhooks import Webhook

from webhooks import sending
from webhooks.signingsecrets import key_of, problem_of


def whsec(length: int) -> str:
    return "whsec_" + base64.b64encode(bytes(range(length))).decode()


@pytest.mark.parametrize("length", [24, 32, 64])
def test_it_takes_the_key_that_the_reference_implementation_takes(length: int) -> None:
    secret = whsec(length)

    assert key_of(secret) == bytes(range(length)) == Webhook(secret)._whsecret


@pytest.mark.parametrize("secret", [whsec(24), whsec(64), "sixteen-letters!"])
def test_it_is_the_key_that_deliveries_are_signed_with(secret: str) -> None:
    assert key_of(secret) == sending.key_of(secret)


def test_any_other_text_is_its_own_bytes() -> None:
    assert key_of("sixteen-letters!") == b"sixteen-letters!"
    assert key_of("Schlüssel-länger-als-nötig") == "Schlüssel-länger-als-nötig".encode()


@pytest.mark.parametrize(
    ("secret", "problem"),
    [
        ("", "is blank"),
        ("   ", "is blank"),
        ("fifteen-letters", "is shorter than 16 characters"),
        (" with-a-space-before", "has spaces or line ends around it"),
        ("with-a-line-end-after\n", "has spaces or line ends around it"),
        ("whsec_not*base64*at*all", "is not padded base64 after whsec_"),
        (whsec(25).rstrip("="), "is not padded base64 after whsec_"),
        (whsec(23), "is not the base64 of 24 to 64 bytes"),
        (whsec(65), "is not the base64 of 24 to 64 bytes"),
    ],
)
def test_it_says_what_is_wrong_without_quoting_the_secret(secret: str, problem: str) -> None:
    told = problem_of(secret) or ""

    assert told.startswith(problem)
    assert not secret.strip() or secret.strip() not in told
    with pytest.raises(ValueError, match=problem):
        key_of(secret)
