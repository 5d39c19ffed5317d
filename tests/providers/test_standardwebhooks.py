"""Standard Webhooks, from any sender."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime

from tests.providers.hooks_contract import NOW, HooksContract, changed, fixture


class StandardContract(HooksContract):
    """Both names of the same scheme."""

    secret = "whsec_" + base64.b64encode(b"planted-0123456789-secret").decode()
    other = "whsec_" + base64.b64encode(b"another-0123456789-secret").decode()
    sample = fixture("standardwebhooks", "invoice_paid")
    prefix = "webhook-"

    def headers(self, body: bytes, secret: str, at: int) -> dict[str, str]:
        key = base64.b64decode(secret.removeprefix("whsec_"))
        digest = hmac.new(key, f"msg_1.{at}.".encode() + body, hashlib.sha256).digest()
        values = {"id": "msg_1", "timestamp": str(at), "signature": f"v1,{base64.b64encode(digest).decode()}"}
        return {self.prefix + name: value for name, value in values.items()}


class TestStandardWebhooks(StandardContract):
    slug = "standardwebhooks"
    required = ("webhook-id", "webhook-timestamp", "webhook-signature")

    def test_it_reads_type_time_and_id(self) -> None:
        (found,) = self.events()
        assert (found.key, found.type, found.subject) == ("msg_1", "invoice.paid", "inv_00112233")
        assert found.occurred_at == datetime(2026, 10, 31, 11, 59, 57, tzinfo=UTC)

    def test_a_secret_needs_no_prefix_and_no_padding(self) -> None:
        bare = self.secret.removeprefix("whsec_")
        assert self.verify(self.request(), bare).secret == 0
        assert self.verify(self.request(), bare.rstrip("=")).secret == 0

    def test_a_secret_that_is_not_base64_fits_nothing(self) -> None:
        assert self.refusal(self.request(), "not base64 at all!").code == "signature_mismatch"
        assert self.scheme.secret_problem("whsec_not base64!")
        assert self.scheme.secret_problem("whsec_AAAA")
        assert self.scheme.secret_problem("whsec_" + "A" * 200)

    def test_names_of_two_senders_are_never_mixed(self) -> None:
        inbound = self.request()
        mixed = changed(inbound, webhook_id=None, svix_id=inbound.headers["webhook-id"])
        assert self.refusal(mixed).code == "signature_missing"

    def test_svix_names_are_taken_as_well(self) -> None:
        headers = {name.replace("webhook-", "svix-"): value for name, value in self.request().headers.items()}
        inbound = changed(self.request(), **dict.fromkeys(self.required), **headers)
        self.verify(inbound)
        assert self.read(inbound)[0].key == "msg_1"

    def test_other_versions_do_not_count(self) -> None:
        inbound = self.request()
        good = inbound.headers["webhook-signature"]
        self.verify(changed(inbound, webhook_signature=f"v1a,AAAA {good}"))
        for value in (good.replace("v1", "v2"), good.replace("v1", "v1a"), f"{good},x", f"{good}  {good}"):
            assert self.refusal(changed(inbound, webhook_signature=value)).code == "signature_malformed"

    def test_times_are_whole_seconds(self) -> None:
        for time in (f"{NOW}000", f"{NOW}.0", "2026-10-31T12:00:00Z", "-5", "١٢٣"):
            self.refusal(changed(self.request(), webhook_timestamp=time))
