"""The optional second factor: codes by time (RFC 6238) and single-use recovery codes.

Wrong codes are slowed down by django-otp itself: each failure doubles the wait for the next try.
"""

from __future__ import annotations

from base64 import b32encode
from datetime import datetime
from typing import Any, cast

import segno
from django.contrib.auth.models import User
from django.db import transaction
from django.utils.safestring import SafeString, mark_safe
from django_otp import devices_for_user, match_token
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

RECOVERY_CODES = 10


def is_on(user: User) -> bool:
    """Whether this account needs a code to sign in."""
    return bool(TOTPDevice.objects.filter(user=user, confirmed=True).exists())


def codes_left(user: User) -> int:
    """How many recovery codes of the account are unused."""
    return cast(int, StaticToken.objects.filter(device__user=user).count())


def matching_device(user: User, code: str) -> Any | None:
    """The device that accepts ``code``, which is used up by it; ``None`` when none does."""
    return match_token(user, "".join(code.split()).lower())


def locked_until(user: User) -> datetime | None:
    """Until when codes are refused unseen, after wrong ones; ``None`` when one may try now."""
    ends = []
    for device in devices_for_user(user, confirmed=True):
        allowed, why = device.verify_is_allowed()
        if allowed:
            return None
        ends.append(why["locked_until"])
    return min(ends, default=None)


@transaction.atomic
def start(user: User) -> TOTPDevice:
    """Begin to set up the second factor anew; it is not in force until :func:`confirm`."""
    TOTPDevice.objects.filter(user=user, confirmed=False).delete()
    return cast(TOTPDevice, TOTPDevice.objects.create(user=user, name="Authenticator", confirmed=False))


def pending(user: User) -> TOTPDevice | None:
    """The device that is being set up, if any."""
    return cast("TOTPDevice | None", TOTPDevice.objects.filter(user=user, confirmed=False).first())


@transaction.atomic
def confirm(device: TOTPDevice, code: str) -> list[str] | None:
    """Put the device in force if ``code`` is right, and return new recovery codes; else ``None``."""
    locked = TOTPDevice.objects.select_for_update().get(pk=device.pk)
    if not locked.verify_is_allowed()[0] or not locked.verify_token("".join(code.split())):
        return None
    locked.confirmed = True
    locked.save(update_fields=["confirmed"])
    return new_recovery_codes(device.user)


@transaction.atomic
def new_recovery_codes(user: User) -> list[str]:
    """Replace the account's recovery codes by fresh ones; the old ones stop working."""
    StaticDevice.objects.filter(user=user).delete()
    device = StaticDevice.objects.create(user=user, name="Recovery codes", confirmed=True)
    codes = [StaticToken.random_token() for _ in range(RECOVERY_CODES)]
    StaticToken.objects.bulk_create(StaticToken(device=device, token=code) for code in codes)
    return codes


@transaction.atomic
def turn_off(user: User) -> None:
    """Remove the second factor and its recovery codes."""
    TOTPDevice.objects.filter(user=user).delete()
    StaticDevice.objects.filter(user=user).delete()


def qr(device: TOTPDevice) -> SafeString:
    """The device's QR code as inline SVG, without style attributes (the CSP forbids them)."""
    svg = segno.make(device.config_url, error="m", micro=False).svg_inline(
        scale=4, border=3, dark="#000", light="#fff", svgclass="ws-qr", lineclass=None, omitsize=False
    )
    return mark_safe(svg)  # noqa: S308  drawn by segno, no text of ours or the user's in it


def readable_key(device: TOTPDevice) -> str:
    """The device's key in Base32, in groups of four, for typing it in by hand."""
    key = b32encode(device.bin_key).decode().rstrip("=")
    return " ".join(key[i : i + 4] for i in range(0, len(key), 4))
