"""What personal data looks like: by the name of its field, and by its shape.

Names are compared in lower case and by words, so that ``receiptEmail``, ``receipt_email`` and
``Receipt-Email`` are one. More names come from ``WSMON_MASK_FIELDS``, exceptions from
``WSMON_UNMASK_FIELDS``; both also take dotted ones such as ``repository.name``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from django.conf import settings

_EXACT = {
    "email": "email e_mail mail emails",
    "phone": "phone phones mobile tel telephone msisdn wa_id fax cell",
    "name": "name full_name first_name last_name middle_name given_name family_name surname maiden_name nickname"
    " customer_name cardholder_name cardholder contact_name account_holder_name profile_name recipient_name"
    " sender_name display_name real_name formatted_name company_name from_name to_name",
    "address": "address addresses street street_name house_number line1 line2 line3 address1 address2"
    " address3 address_line1 address_line2 postal_code postcode zip zip_code zipcode city town"
    " from_city to_city from_zip to_zip caller_city called_city",
    "ip": "ip ips ip_address remote_addr remote_address x_forwarded_for x_real_ip x_client_ip client_ip forwarded",
    "location": "latitude longitude lat lng lon geolocation coordinates",
    "birth date": "birthday birthdate birth_date date_of_birth dob",
    "identity": "ssn social_security_number tax_id vat_id passport passport_number driving_license id_number"
    " personal_id national_id",
    "account": "iban account_number routing_number sort_code bank_account cvc cvv card_number pan",
    "secret": "otp pin",
    "message": "body html text caption",
}
_LAST = {"email": "email", "mail": "email", "phone": "phone", "mobile": "phone", "ip": "ip", "address": "address"}
"""By the last word of a name: ``customer_email``, ``contact_phone``, ``browser_ip``, ``billing_address``."""
_LAST_TWO = {
    "email address": "email",
    "mail address": "email",
    "ip address": "ip",
    "phone number": "phone",
    "mobile number": "phone",
    "mac address": "",
    "contract address": "",
}
_PEOPLE = frozenset(
    ("from", "to", "cc", "bcc", "reply_to", "sender", "recipient", "recipients", "recipient_id", "caller", "called")
)
"""Under these names, bare digits are a phone number."""
_BY_NAME = {name: kind for kind, names in _EXACT.items() for name in names.split()}
KINDS = (*_EXACT, "card", "field")

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")
_NUMBER = re.compile(r"(?<=[a-z])_(?=\d)")
_DIGITS = re.compile(r"\+?\d{7,15}")


def words_of(name: str) -> str:
    """A field's name in lower case with ``_`` between its words; what is longer than any name is cut."""
    plain = name[:100]
    if not (plain.islower() and plain.isidentifier()):
        plain = "_".join(_WORDS.findall(plain)).lower()
    return _NUMBER.sub("", plain)  # line_1 and line1 are one


def kind_of_field(name: str, parent: str = "") -> str:
    """What the field ``name`` (of an object that stands under ``parent``) holds; "" when nothing personal."""
    return _kind(name[:100], parent[:100], tuple(settings.MASK_FIELDS), tuple(settings.UNMASK_FIELDS))


def is_phone_of(name: str, value: str) -> bool:
    """Whether bare digits are a phone number, since they stand under ``from``, ``to``, ..."""
    return words_of(name) in _PEOPLE and _DIGITS.fullmatch(value) is not None


@lru_cache(maxsize=4096)
def _kind(name: str, parent: str, more: tuple[str, ...], fewer: tuple[str, ...]) -> str:
    if name.startswith("[masked "):  # a key of a map, masked before
        return ""
    word = words_of(name)
    full = f"{words_of(parent)}.{word}"
    if _listed(word, full, fewer):
        return ""
    if _listed(word, full, more):
        return _BY_NAME.get(word, "field")
    if word in _BY_NAME:
        return _BY_NAME[word]
    parts = word.split("_")
    two = " ".join(parts[-2:])
    return _LAST_TWO[two] if two in _LAST_TWO else _LAST.get(parts[-1], "")


def _listed(word: str, full: str, names: tuple[str, ...]) -> bool:
    return any((full if "." in name else word) == ".".join(map(words_of, name.split("."))) for name in names)


# Shapes. Each pattern starts at the start of a run of its characters only, or a long text would take
# quadratic time.
_LOCAL = r"\w.+'!#$*^`{|}~-"
_EMAIL = re.compile(
    rf"(?<![{_LOCAL}])[{_LOCAL}]++(?:@|%40|\\u0040)(?:[\w-]{{1,63}}\.){{1,10}}[\w-]{{2,63}}", re.IGNORECASE
)
_PHONE = re.compile(
    r"(?:(?:\+|%2B|\\u002b)[1-9](?:[ ().\-/]{0,2}\d){6,14}"
    r"|(?<![\w.-])00[1-9]\d(?:[ \-/]?\d){6,14}"
    r"|\(\d{2,5}\)[ ]?\d{3,4}[ .-]?\d{3,5}"
    r"|(?:(?<![\w.-])|(?<=%[\dA-F]{2}))\d{3}[-. ]\d{3}[-. ]\d{4})(?!\d)",
    re.IGNORECASE,
)
_DIGIT_RUN = re.compile(r"(?<![\d.])\d(?:[ -]?\d){11,}(?!\d)")
_IBAN = re.compile(r"(?:(?<!\w)|(?<=%[\dA-F]{2}))[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?!\w)")
_SSN = re.compile(r"(?:(?<![\w-])|(?<=%[\dA-F]{2}))\d{3}-\d{2}-\d{4}(?![\w-])")
_CARD = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3(?:0|[68]\d)\d{11,12}|35\d{14}"
    r"|(?:6011|65\d\d|64[4-9]\d|62\d\d)\d{12,15}|(?:50|5[6-9]|6\d)\d{10,17}"
)
"""The issuers' ranges (https://en.wikipedia.org/wiki/Payment_card_number): without them, every tenth
number of that length, such as a time in milliseconds, would pass for a card."""


def replace_shapes(text: str, write: Callable[[str], str]) -> str:
    """``text`` with e-mail addresses, phone, card and account numbers replaced by ``write(kind)``."""
    if "@" in text or "%40" in text or "u0040" in text:
        text = _emails(text, write("email"))
    if not any(character.isdigit() for character in text):
        return text
    text = _DIGIT_RUN.sub(lambda match: _cards_of(match, write("card")), text)
    text = _IBAN.sub(lambda match: write("account") if _is_iban(match[0]) else match[0], text)
    text = _PHONE.sub(write("phone"), text)
    return _SSN.sub(write("identity"), text)


def _emails(text: str, mask: str) -> str:
    """Again while it finds more: an address that follows another one without a space is seen only then."""
    for _ in range(5):
        before, text = text, _EMAIL.sub(mask, text)
        if text == before:
            break
    return text


def _cards_of(match: re.Match[str], mask: str) -> str:
    """The run masked; after ``%`` its first two digits may be a character's code in a URL."""
    run = match[0]
    masked = _cards(run, mask)
    if masked == run and match.string[match.start() - 1 : match.start()] == "%":
        return run[:2] + _cards(run[2:], mask)
    return masked


def _cards(run: str, mask: str) -> str:
    """A run of groups of digits with every card number in it masked; a card begins and ends with a group."""
    groups = re.split(r"([ -])", run)
    kept: list[str] = []
    start = 0
    while start < len(groups):
        length = next((n for n in range(13, 0, -2) if _is_card("".join(groups[start : start + n : 2]))), 0)
        kept += [mask] if length else groups[start : start + 1]
        kept += groups[start + max(length, 1) : start + max(length, 1) + 1]
        start += max(length, 1) + 1
    return "".join(kept)


def _is_card(digits: str) -> bool:
    return 12 <= len(digits) <= 19 and _CARD.fullmatch(digits) is not None and _luhn(digits)


def _luhn(digits: str) -> bool:
    """The check digit of card numbers (ISO/IEC 7812-1)."""
    doubled = (int(digit) * 2 for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(number - 9 * (number > 9) for number in doubled)) % 10 == 0


def _is_iban(text: str) -> bool:
    """The check digits of account numbers (ISO 13616)."""
    plain = text.replace(" ", "")
    turned = plain[4:] + plain[:4]
    return 15 <= len(plain) <= 34 and int("".join(str(int(character, 36)) for character in turned)) % 97 == 1
