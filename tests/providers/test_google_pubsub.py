"""Google Cloud Pub/Sub's push subscriptions."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from tests.providers.hooks_contract import BASE, NOW, HooksContract, changed, fixture, refused

EMAIL = "push-invoker@studio-invented.iam.gserviceaccount.com"


@cache
def _key(name: str) -> tuple[RSAPrivateKey, str]:
    key = generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1))  # noqa: DTZ001 - X.509 knows UTC only
        .not_valid_after(datetime(2027, 1, 1))  # noqa: DTZ001
        .sign(key, SHA256())
    )
    return key, certificate.public_bytes(Encoding.PEM).decode()


def _encoded(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _token(name: str, at: int, **changes: Any) -> str:
    claims = {"iss": "https://accounts.google.com", "aud": f"{BASE}/google_pubsub", "email": EMAIL}
    claims |= {"email_verified": True, "iat": at, "exp": at + 3600} | changes
    signed = f"{_encoded({'alg': 'RS256', 'kid': name})}.{_encoded(claims)}"
    return f"{signed}.{_encoded(_key(name)[0].sign(signed.encode(), PKCS1v15(), SHA256()))}"


class TestPubSub(HooksContract):
    slug = "google_pubsub"
    secret = json.dumps({"one": _key("one")[1]})
    other = json.dumps({"two": _key("two")[1]})
    options = {"service_account": EMAIL}
    sample = fixture("google_pubsub", "message")
    past = None
    covers_body = False
    required = ("authorization",)

    def headers(self, body: bytes, secret: str, at: int) -> dict[str, str]:
        return {"authorization": f"Bearer {_token(next(iter(json.loads(secret))), at)}"}

    def test_a_genuine_request_is_believed(self) -> None:
        assert self.verify(self.request()).signed_at == NOW

    def test_it_reads_a_bucket_s_notification(self) -> None:
        (found,) = self.events()
        assert (found.key, found.type) == ("2070443601311540", "OBJECT_FINALIZE")
        assert found.subject == "galleries/B-1042/001.jpg"
        assert found.occurred_at == datetime(2026, 10, 31, 11, 59, 58, 123000, UTC)

    def test_it_reads_a_message_without_its_wrapper(self) -> None:
        inbound = changed(self.request(b"anything"), x_goog_pubsub_message_id="9")
        name = {"x-goog-pubsub-subscription-name": "projects/p/subscriptions/ops"}
        (found,) = self.read(changed(inbound, **name))
        assert (found.key, found.type, found.subject) == ("9", "pubsub.message", "ops")

    def test_tokens_for_others_are_refused(self) -> None:
        for claims in (
            {"aud": f"{BASE}/other"}, {"iss": "https://evil.test"}, {"email": "a@b"}, {"email_verified": False},
            {"email_verified": "true"}, {"iat": None}, {"exp": "soon"}, {"exp": NOW - 301}, {"iat": NOW + 301},
        ):  # fmt: skip
            self.refusal(changed(self.request(), authorization=f"Bearer {_token('one', NOW, **claims)}"))

    def test_the_audience_may_be_named(self) -> None:
        options = self.scheme.options(service_account=EMAIL, audience="ours")
        refused(lambda: self.scheme.verify(self.request(), (self.secret,), options))
        inbound = changed(self.request(), authorization=f"Bearer {_token('one', NOW, aud='ours')}")
        self.scheme.verify(inbound, (self.secret,), options)

    def test_a_token_dies(self) -> None:
        late = timedelta(hours=1, minutes=5).total_seconds()
        self.verify(replace(self.request(), received_at=NOW + late))
        assert self.refusal(replace(self.request(), received_at=NOW + late + 1)).code == "too_old"

    def test_secrets_of_the_wrong_shape_are_told_without_being_quoted(self) -> None:
        assert self.scheme.secret_problem(self.secret) is None
        for wrong in ("", "{}", '{"kid": "no certificate"}', '{"kid": 5}', "[]"):
            assert self.scheme.secret_problem(wrong)
