"""Web push to browsers and phones that subscribed (RFC 8030, 8291, 8292): ``webpush:USERNAME``, or ``webpush:*``.

The push services are the browsers' vendors'. What they carry is encrypted for the browser; the requests to them
are wsmon's own client's, since the browser names the address.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from py_vapid import Vapid02
from pywebpush import WebPusher

from monitoring.models import PushKey, PushSubscription
from monitoring.notifications.messages import Message
from monitoring.notifications.problems import ChannelProblem
from wsmon.audit import Actor, record
from wsmon.http import HttpError, http_client
from wsmon.secrets import Unresolvable, decrypt, encrypt

SCHEME = "webpush"
TTL = 12 * 3600
"""Seconds that a push service keeps a message for a browser that is away."""
MOST_PER_PERSON = 10
MOST_TOLD = 200
_LIFETIME = 12 * 3600
"""Seconds that a signature holds; RFC 8292 allows a day."""
_LARGEST = 3_900
"""Bytes of what is told: with all around it a message has 4,096 (RFC 8291, 4)."""
_GONE = (404, 410)
_URGENCY = {"critical": "high", "warning": "normal", "info": "low"}
_USER = re.compile(r"[\w.@+-]{1,150}")


def read(address: str) -> str:
    """The user name of a channel's address, ``*`` for everybody; raise ValueError."""
    name = address.partition(":")[2]
    if name != "*" and not _USER.fullmatch(name):
        raise ValueError("must be webpush: and a user name, or webpush:* for everybody who subscribed")
    return name


def public_key() -> str:
    """What browsers subscribe to (base64url); the key pair is made at first use."""
    return _key().public


def subscribe(user: User, told: Any, label: str, actor: Actor) -> PushSubscription:
    """Keep a browser's subscription; raise ValueError when it is none."""
    subscription = _checked(told)
    digest = hashlib.sha256(subscription["endpoint"].encode()).hexdigest()
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(id=user.id)
        row, new = PushSubscription.objects.update_or_create(
            digest=digest,
            defaults={
                "user": user,
                "encrypted": encrypt(json.dumps(subscription)),
                "label": label[:200],
            },
        )
        surplus = PushSubscription.objects.filter(user=user).order_by("-created_at", "-id")[MOST_PER_PERSON:]
        PushSubscription.objects.filter(id__in=[one.id for one in surplus]).delete()
        if new:
            record(actor, "push.subscribe", f"user:{user.get_username()}", browser=label[:200])
    return row


def unsubscribe(user: User, number: int, actor: Actor) -> bool:
    """Forget one of a person's browsers; False when it is none of theirs."""
    with transaction.atomic():
        row = PushSubscription.objects.filter(user=user, id=number).first()
        if row is None:
            return False
        row.delete()
        record(actor, "push.unsubscribe", f"user:{user.get_username()}", browser=row.label)
    return True


def send(address: str, message: Message, seconds: float) -> None:
    """Push to every browser that is meant; raise :class:`ChannelProblem` when none of them got it."""
    name = read(address)
    rows = PushSubscription.objects.filter(user__is_active=True)
    rows = rows if name == "*" else rows.filter(user__username=name)
    found = list(rows.order_by("id")[:MOST_TOLD])
    if not found:
        words = "nobody has subscribed a browser" if name == "*" else f"{name} has subscribed no browser"
        raise ChannelProblem(words, retry=False)
    ends = time.monotonic() + seconds
    problems = [_push(row, message, max(0.5, ends - time.monotonic())) for row in found]
    bad = [problem for problem in problems if problem is not None]
    if len(bad) == len(found):
        raise bad[0]


def _push(row: PushSubscription, message: Message, timeout: float) -> ChannelProblem | None:
    try:
        subscription = json.loads(decrypt(bytes(row.encrypted)))
        headers, body = sealed(subscription, message)
        response = http_client().request(
            "POST", subscription["endpoint"], headers=headers, body=body, timeout=min(timeout, 10.0)
        )
    except Unresolvable as problem:
        return ChannelProblem(str(problem), retry=False)
    except HttpError as problem:
        return ChannelProblem(problem.message, retry=not problem.ours)
    if response.ok:
        PushSubscription.objects.filter(id=row.id).update(used_at=timezone.now())
        return None
    if response.status in _GONE:  # the browser's vendor says that it is gone for good
        row.delete()
        return ChannelProblem("the browser is no longer subscribed", retry=False)
    retry = response.status in (408, 429) or response.status >= 500
    return ChannelProblem(f"the browser's push service answered {response.status}", retry=retry)


def sealed(subscription: Mapping[str, Any], message: Message) -> tuple[dict[str, str], bytes]:
    """Headers and body of one push: encrypted for the browser, signed by us."""
    tag = message.thread or message.id
    body = WebPusher(subscription).encode(_told(message, tag))["body"]
    parts = urlsplit(str(subscription["endpoint"]))
    claims = {
        "aud": f"{parts.scheme}://{parts.netloc}",
        "exp": int(time.time()) + _LIFETIME,
        "sub": settings.PUBLIC_URL if settings.PUBLIC_URL.startswith("https://") else "mailto:wsmon@localhost.local",
    }
    vapid = Vapid02.from_pem(decrypt(bytes(_key().encrypted)).encode())
    headers = {
        **vapid.sign(claims),
        "Content-Encoding": "aes128gcm",
        "Content-Type": "application/octet-stream",
        "TTL": str(TTL),
        "Urgency": _URGENCY.get(message.severity, "normal"),
        "Topic": hashlib.sha256(tag.encode()).hexdigest()[:32],
    }
    return headers, bytes(body)


def _told(message: Message, tag: str) -> bytes:
    """What the service worker shows, as JSON; of a long body as much as fits."""
    url = message.ack_url or message.url
    told = {"title": message.title, "body": message.body, "url": url, "tag": tag, "severity": message.severity}
    text = json.dumps(told, ensure_ascii=False)
    while len(text.encode()) > _LARGEST and told["body"]:
        surplus = len(text.encode()) - _LARGEST
        told["body"] = told["body"][: -max(1, surplus // 4)]
        text = json.dumps(told, ensure_ascii=False)
    return text.encode()


def _key() -> PushKey:
    found = PushKey.objects.filter(id=1).first()
    if found is None:
        private = ec.generate_private_key(ec.SECP256R1())
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        public = base64.urlsafe_b64encode(point).rstrip(b"=").decode()
        PushKey.objects.bulk_create([PushKey(id=1, encrypted=encrypt(pem), public=public)], ignore_conflicts=True)
        found = PushKey.objects.get(id=1)
    return found


def _checked(told: Any) -> dict[str, Any]:
    if not isinstance(told, Mapping):
        raise ValueError("is no subscription of a browser")  # noqa: TRY004  what a browser sent is judged as a value
    endpoint, keys = told.get("endpoint"), told.get("keys")
    if not isinstance(endpoint, str) or not isinstance(keys, Mapping) or len(endpoint) > 2_000:
        raise ValueError("is no subscription of a browser")
    p256dh, auth = keys.get("p256dh"), keys.get("auth")
    try:
        parts = urlsplit(endpoint)
        point, secret = _bytes(p256dh), _bytes(auth)
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        raise ValueError("has no keys to encrypt for") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or len(secret) != 16:
        raise ValueError("is no subscription of a browser")
    return {"endpoint": endpoint, "keys": {"p256dh": p256dh, "auth": auth}}


def _bytes(text: Any) -> bytes:
    if not isinstance(text, str) or len(text) > 200:
        raise ValueError("is no text")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
