"""Standard Webhooks signed with a key pair: `v1a`, verified by a public key, `whpk_`."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from providers import standardwebhooks
from tests.providers.hooks_contract import HooksContract, changed, fixture

PAIR, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def public(pair: Ed25519PrivateKey) -> str:
    """As a sender shows it."""
    return "whpk_" + base64.b64encode(pair.public_key().public_bytes_raw()).decode()


PAIRS = {public(pair): pair for pair in (PAIR, OTHER)}
SHARED = "whsec_" + base64.b64encode(b"planted-0123456789-secret").decode()


class KeysContract(HooksContract):
    """All that is asked of a shared secret is asked of a key pair."""

    secret = public(PAIR)
    other = public(OTHER)
    sample = fixture("standardwebhooks", "invoice_paid")
    prefix = "webhook-"

    def headers(self, body: bytes, secret: str, at: int) -> dict[str, str]:
        signature = PAIRS[secret].sign(f"msg_1.{at}.".encode() + body)
        values = {"id": "msg_1", "timestamp": str(at), "signature": f"v1a,{base64.b64encode(signature).decode()}"}
        return {self.prefix + name: value for name, value in values.items()}

    @property
    def name(self) -> str:
        return f"{self.prefix}signature"

    def test_it_says_how_it_was_signed(self) -> None:
        assert self.verify(self.request()).scheme == f"{self.prefix}signature v1a, Ed25519"

    def test_the_key_of_another_pair_is_refused(self) -> None:
        assert self.refusal(self.request(), self.other).code == "signature_mismatch"

    def test_another_id_or_time_is_refused(self) -> None:
        inbound = self.request()
        for name, value in ((f"{self.prefix}id", "msg_2"), (f"{self.prefix}timestamp", "1793448001")):
            assert self.refusal(changed(inbound, **{name: value})).code == "signature_mismatch"

    def test_a_public_key_is_never_a_shared_secret(self) -> None:
        """Everybody knows it, and could make an HMAC with it."""
        inbound = self.request()
        key = PAIR.public_key().public_bytes_raw()
        text = inbound.headers[f"{self.prefix}id"] + "." + inbound.headers[f"{self.prefix}timestamp"] + "."
        signed = text.encode() + inbound.body
        for secret in (key, self.secret.encode(), self.secret.removeprefix("whpk_").encode()):
            forged = base64.b64encode(standardwebhooks.signing.sign(secret, signed)).decode()
            for version in ("v1", "v1a"):
                self.refusal(changed(inbound, **{self.name: f"{version},{forged}"}))
        assert standardwebhooks.keys_of(self.secret) == ()

    def test_a_signature_counts_under_its_own_version_only(self) -> None:
        inbound = self.request()
        value = inbound.headers[self.name].replace("v1a,", "v1,")
        assert self.refusal(changed(inbound, **{self.name: value})).code == "signature_mismatch"

    def test_one_of_several_signatures_is_enough_but_not_of_very_many(self) -> None:
        inbound, wrong = self.request(), f"v1a,{base64.b64encode(bytes(64)).decode()}"
        good = inbound.headers[self.name]
        self.verify(changed(inbound, **{self.name: " ".join(["v1,AAAA", *[wrong] * 7, good])}))
        error = self.refusal(changed(inbound, **{self.name: " ".join([*[wrong] * 8, good])}))
        assert error.code == "signature_malformed"

    def test_a_sender_may_change_from_a_secret_to_a_key_pair(self) -> None:
        inbound = self.request()
        assert self.verify(inbound, SHARED, self.secret).secret == 1
        assert self.verify(inbound, f"{SHARED}|{self.secret}").secret == 0
        assert self.refusal(inbound, SHARED).code == "signature_mismatch"

    def test_a_key_may_be_written_with_its_version_and_without_padding(self) -> None:
        for spelt in (f"v1a,{self.secret}", self.secret.rstrip("=")):
            assert self.verify(self.request(), spelt).secret == 0
            assert self.scheme.secret_problem(spelt) is None

    @pytest.mark.parametrize("wrong", ["whpk_", "whpk_AAAA", "whpk_not base64", "whpk_" + "A" * 86 + "=="])
    def test_what_is_no_key_fits_nothing_and_is_told(self, wrong: str) -> None:
        assert self.refusal(self.request(), wrong).code == "signature_mismatch"
        assert "whpk_" in str(self.scheme.secret_problem(wrong))

    def test_a_private_key_is_told_and_not_used(self) -> None:
        private = "whsk_" + base64.b64encode(PAIR.private_bytes_raw()).decode()
        problem = str(self.scheme.secret_problem(private))
        assert "private" in problem
        assert private not in problem
        assert self.refusal(self.request(), private).code == "signature_mismatch"
        assert standardwebhooks.keys_of(private) == ()

    def test_a_key_that_is_no_point_of_the_curve_fits_nothing(self) -> None:
        odd = "whpk_" + base64.b64encode(b"\xff" * 32).decode()
        assert self.refusal(self.request(), odd).code == "signature_mismatch"

    def test_a_signature_of_another_body_is_refused(self) -> None:
        assert self.refusal(replace(self.request(), body=b"{}")).code == "signature_mismatch"


class TestStandardWebhooksKeys(KeysContract):
    slug = "standardwebhooks"
    required = ("webhook-id", "webhook-timestamp", "webhook-signature")


class TestSvixKeys(KeysContract):
    slug = "svix"
    prefix = "svix-"
    required = ("svix-id", "svix-timestamp", "svix-signature")
