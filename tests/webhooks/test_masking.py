"""webhooks/masking.py: what people may see of a payload."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webhooks import masking, personal
from webhooks.masking import Mask, mask_answer, mask_headers, mask_payload, mask_text

EMAIL = "jane.doe+wedding@example.co.uk"
PHONES = [
    "+49 170 1234567",
    "+14155552671",
    "(415) 555-2671",
    "415-555-2671",
    "+44 (0)20 7946 0958",
    "0049 170 1234567",
]
CARDS = ["4242424242424242", "4242 4242 4242 4242", "5555-5555-5555-4444", "378282246310005", "6011111111111117"]
IBAN = "DE89 3704 0044 0532 0130 00"
SECRETS = [
    "sk_live_51Habcdefghijklmno",
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "SG.abcdefgh12345678.abcdefgh12345678",
]
PLANTED = [EMAIL, *PHONES, *CARDS, IBAN, "123-45-6789", *SECRETS]
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

planted = st.sampled_from(PLANTED)
between = st.text(alphabet=" ,;:\n\t<>[]{}()'\"\\/=&!?äßñ你好xyz", max_size=20)
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
names = st.text(max_size=12) | st.sampled_from(["email", "name", "data", "items", "id", "token", "amount"])
values = st.recursive(
    plain | planted,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
)


def masked(value: Any, content_type: str = JSON) -> masking.Masked:
    return mask_payload(json.dumps(value).encode(), content_type)


def test_fields_of_a_person_are_masked_by_their_names() -> None:
    found = masked(
        {
            "id": "evt_1",
            "data": {
                "receipt_email": "not even an address",
                "amount": 12_000,
                "billing_details": {
                    "name": "Jane Doe",
                    "phone": 4917012345,
                    "address": {"city": "Hof", "line2": None},
                },
            },
        }
    )
    assert found.value == {
        "id": "evt_1",
        "data": {
            "receipt_email": Mask("email"),
            "amount": 12_000,
            "billing_details": {
                "name": Mask("name"),
                "phone": Mask("phone"),
                "address": {"city": Mask("address"), "line2": None},
            },
        },
    }
    assert found.masked == [
        "data.receipt_email",
        "data.billing_details.name",
        "data.billing_details.phone",
        "data.billing_details.address.city",
    ]
    assert json.loads(found.text)["data"]["receipt_email"] == "[masked email]"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("receiptEmail", "email"),
        ("Customer-Email", "email"),
        ("email_address", "email"),
        ("email_id", ""),
        ("shippingAddress", "address"),
        ("addressLine1", "address"),
        ("address_line_1", "address"),
        ("client_ip", "ip"),
        ("ip_address", "ip"),
        ("zip", "address"),
        ("ship", ""),
        ("event_name", ""),
        ("wa_id", "phone"),
        ("date_of_birth", "birth date"),
        ("", ""),
    ],
)
def test_names_are_compared_by_their_words(name: str, kind: str) -> None:
    assert personal.kind_of_field(name) == kind


def test_names_can_be_added_and_taken_out(settings: Any) -> None:
    settings.MASK_FIELDS = ["bride", "venue.title"]
    settings.UNMASK_FIELDS = ["repository.name"]
    found = masked(
        {"bride": "Jane", "venue": {"title": "Hall"}, "title": "x", "repository": {"name": "wsmon"}, "name": "J"}
    )
    assert found.masked == ["bride", "venue.title", "name"]
    assert found.value["repository"] == {"name": "wsmon"}


def test_digits_are_a_phone_number_only_where_people_are_named() -> None:
    found = masked({"from": "16315551234", "to": "here", "timestamp": "1712345678", "id": 16315551234})
    assert found.masked == ["from"]


def test_times_and_identifiers_are_no_card_numbers() -> None:
    value = {
        "ms": 1712345678123,
        "id": "1234567890123456",
        "uuid": "4f3c2b1a-1111-4222-8333-123456789012",
        "at": "2024-05-01T10:00:00+00:00",
        "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "version": "1.24.300.4000",
    }
    assert masked(value).masked == []


@settings(deadline=None)
@given(st.integers(1_500_000_000_000, 1_999_999_999_999))
def test_no_time_in_milliseconds_passes_for_a_card(number: int) -> None:
    assert masked([number]).masked == []


@settings(deadline=None)
@given(planted, between, between)
def test_nothing_planted_in_a_text_survives(secret: str, before: str, after: str) -> None:
    assert secret not in mask_text(before + " " + secret + " " + after)


@settings(deadline=None)
@given(values, planted, st.lists(names | st.integers(0, 2), max_size=6))
def test_nothing_planted_in_json_survives_at_any_depth(value: Any, secret: str, path: list[str | int]) -> None:
    tree: Any = f"see {secret}, please"
    for step in reversed(path):
        tree = {step: tree, "other": value} if isinstance(step, str) else [value] * step + [tree]
    found = masked(tree)
    assert secret not in found.text
    assert secret not in json.dumps(found.value, default=str)
    assert found.masked


@settings(deadline=None)
@given(planted, names)
def test_nothing_planted_in_a_form_survives(secret: str, name: str) -> None:
    body = urlencode({name: secret, "x": f"a {secret} b", "payload": json.dumps({"deep": [secret]}), secret: "1"})
    found = mask_payload(body.encode(), FORM)
    assert secret not in found.text
    assert secret not in repr(found.fields)
    wrongly = mask_payload(body.encode(), "text/plain")
    assert secret not in wrongly.text


@settings(deadline=None)
@given(planted, st.sampled_from(["utf-8", "utf-16", "utf-32", "latin-1"]))
def test_nothing_planted_survives_in_another_encoding(secret: str, encoding: str) -> None:
    for body in ('{"a": "' + secret + '"}', "x " + secret + " y", '{"a": "' + secret + '", broken'):
        assert secret not in mask_payload(body.encode(encoding), JSON).text.replace("\x00", "")


@settings(deadline=None)
@given(values)
def test_masking_what_is_masked_changes_nothing_in_json(value: Any) -> None:
    once = masked(value)
    assert mask_payload(once.text.encode(), JSON).text == once.text


@settings(deadline=None)
@given(st.dictionaries(names, planted | st.text(max_size=10), max_size=5))
def test_masking_what_is_masked_changes_nothing_in_forms(pairs: dict[str, str]) -> None:
    once = mask_payload(urlencode(pairs).encode(), FORM)
    assert mask_payload(once.text.encode(), FORM).text == once.text


@settings(deadline=None)
@given(st.lists(planted | between | st.sampled_from(["name=", "email: ", '"phone": ', "token="])).map("".join))
def test_masking_what_is_masked_changes_nothing_in_text(text: str) -> None:
    once = mask_text(text)
    assert mask_text(once) == once


GARBAGE = {
    "deep": b"[" * 100_000,
    "deep but fine": b'{"a":' * 900 + b"1" + b"}" * 900,
    "a long number": b"[" + b"9" * 10_000 + b"]",
    "half a surrogate pair": b'"\\ud800\\u0000"',
    "no number, key twice": b'{"a": NaN, "a": 1e999}',
    "many fields": b"&".join([b"a=1"] * 50_000),
    "a byte order mark": b"\xff\xfe\x00",
    "signs": b"+1" * 100_000,
    "at signs": b"a@" * 100_000,
    "labels": b"name=" * 50_000,
    "quotes": b'{"' * 50_000,
    "digits": b"1 " * 100_000,
}
TYPES = [JSON, FORM, "text/plain", "", "application/x-www-form-urlencoded; charset=x"]


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_of_every_kind_can_be_shown(body: bytes, content_type: str) -> None:
    found = mask_payload(body, content_type)
    assert "\x00" not in found.text
    found.text.encode()


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from(TYPES))
def test_garbage_never_raises_and_can_always_be_sent(body: bytes, content_type: str) -> None:
    found = mask_payload(body, content_type)
    assert "\x00" not in found.text
    found.text.encode()
    mask_answer(body, content_type).decode()


@pytest.mark.parametrize(
    "body",
    [
        json.dumps([{"n": "x" * 50, "email": EMAIL}] * 40_000).encode(),
        json.dumps({"text_of": f"{EMAIL} " * 100_000}).encode(),
        json.dumps({f"k{number}": EMAIL for number in range(100_000)}).encode(),
        f"{EMAIL} ".encode() * 100_000,
        b"x" * 10_000_000,
    ],
    ids=["array", "one long text", "object", "text", "huge"],
)
def test_at_most_256_kb_are_shown_and_it_is_said_that_there_is_more(body: bytes) -> None:
    found = mask_payload(body, JSON)
    assert found.truncated
    assert len(found.text) <= masking.SHOWN * 1.05
    assert EMAIL not in found.text
    assert "example.co" not in found.text
    assert len(found.masked) <= masking.PATHS


def test_what_is_cut_short_is_still_json() -> None:
    found = mask_payload(json.dumps([{"n": "x" * 50}] * 40_000).encode(), JSON)
    assert json.loads(found.text)[-1].endswith("more")


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 700))
def test_an_address_that_the_cut_would_halve_is_dropped(shift: int) -> None:
    body = b"x " * ((masking.ANSWER - shift) // 2) + (EMAIL + " ").encode() * 100
    shown = mask_payload(body, "text/plain", masking.ANSWER).text
    assert "jane.doe" not in shown


def test_headers_keep_their_order_and_lose_their_secrets() -> None:
    assert mask_headers(
        [
            ("Content-Type", "application/json"),
            ("Authorization", "Bearer abcdefghijk"),
            ("Stripe-Signature", "t=1,v1=abc"),
            ("X-Forwarded-For", "203.0.113.9, 10.0.0.1"),
            ("X-Api-Key", "k"),
            ("X-Note", f"call {EMAIL}"),
            ("X-Note", ""),
        ]
    ) == [
        ("Content-Type", "application/json"),
        ("Authorization", "***"),
        ("Stripe-Signature", "***"),
        ("X-Forwarded-For", "[masked ip]"),
        ("X-Api-Key", "***"),
        ("X-Note", "call [masked email]"),
        ("X-Note", ""),
    ]


def test_two_keys_that_look_the_same_once_masked_are_both_kept() -> None:
    assert list(masked({"a@example.com": 1, "b@example.com": 2}).value.values()) == [1, 2]


def test_broken_json_is_masked_by_names_too() -> None:
    text = mask_payload(b'{"name": "Jane Doe", "phone": 12345, "email": "jane" "x": 1', JSON).text
    assert text == '{"name": "[masked name]", "phone": "[masked phone]", "email": "[masked email]" "x": 1'


def test_an_answer_is_kept_masked_up_to_16_kb() -> None:
    assert mask_answer(b'{"email": "a"}', JSON) == b'{\n  "email": "[masked email]"\n}'
    assert len(mask_answer("ü".encode() * 50_000, "text/plain")) <= masking.ANSWER
    assert mask_answer(b"", "") == b""


def test_a_secret_of_ours_is_masked_in_payloads_too() -> None:
    found = masked({"client_secret": "anything", "otp": 123456, "note": SECRETS[0], "apiKey": "k"})
    assert found.masked == ["client_secret", "otp", "note", "apiKey"]
