"""Web push: what a browser's push service gets can be read by that browser, and is signed by us."""

from __future__ import annotations

import base64
import json
import os
from typing import Any

import http_ece
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.contrib.auth.models import User
from py_vapid import Vapid02

from monitoring.models import PushKey, PushSubscription
from monitoring.notifications import channels, push
from monitoring.notifications.messages import Message
from monitoring.notifications.problems import ChannelProblem
from tests import servers
from tests.monitoring.notifications.factories import Sink, in_turn, make_channel
from tests.monitoring.notifications.test_mail import MESSAGE
from wsmon.audit import Actor

pytestmark = pytest.mark.django_db
ACTOR = Actor.system("test")


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def subscription(endpoint: str) -> tuple[dict[str, Any], tuple[ec.EllipticCurvePrivateKey, bytes]]:
    """What a browser makes, and the keys that it keeps."""
    key, secret = ec.generate_private_key(ec.SECP256R1()), os.urandom(16)
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return {"endpoint": endpoint, "keys": {"p256dh": encoded(point), "auth": encoded(secret)}}, (key, secret)


def subscribed(name: str, endpoint: str) -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    user, _ = User.objects.get_or_create(username=name, defaults={"is_staff": True})
    told, keys = subscription(endpoint)
    push.subscribe(user, told, "Firefox on Linux", ACTOR)
    return keys


def send(address: str = "webpush:*", message: Message = MESSAGE) -> None:
    channels.send(make_channel(address=address), message)


def test_the_browser_can_read_it_and_knows_that_it_is_ours(loopback_targets: None) -> None:
    with Sink(servers.answering(b"", "201 Created")) as service:
        key, secret = subscribed("ana", service.url("/push/1"))
        send("webpush:ana")
        (request,) = service.requests
    head, _, body = request.partition(b"\r\n\r\n")
    told = json.loads(http_ece.decrypt(body, private_key=key, auth_secret=secret, version="aes128gcm"))
    assert told == {
        "title": "Stripe is down",
        "body": "503 since 9:00",
        "url": "http://wsmon.test/ack/x/",
        "tag": "alert-7",
        "severity": "critical",
    }
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert (headers["Content-Encoding"], headers["Urgency"], headers["TTL"]) == ("aes128gcm", "high", "43200")
    token, public = headers["Authorization"].removeprefix("vapid t=").split(",k=")
    assert public == push.public_key()
    signed, _, signature = token.rpartition(".")
    assert Vapid02.from_raw_public(public.encode()).verify_token(signed.encode(), signature)
    claims = json.loads(base64.urlsafe_b64decode(signed.partition(".")[2] + "=="))
    assert claims["aud"] == service.url("").rstrip("/")
    assert PushSubscription.objects.get().used_at is not None


def test_the_key_is_made_once_and_kept_encrypted() -> None:
    assert push.public_key() == push.public_key()
    row = PushKey.objects.get()
    assert b"PRIVATE" not in bytes(row.encrypted)
    assert str(row) == push.public_key()


def test_a_star_is_for_everybody_and_one_who_got_it_is_enough(loopback_targets: None) -> None:
    with (
        Sink(in_turn(servers.http(status="500 Oops"))) as broken,
        Sink(servers.answering(b"", "201 Created")) as fine,
    ):
        subscribed("ana", broken.url("/1"))
        subscribed("ben", fine.url("/2"))
        send()
        assert (len(broken.requests), len(fine.requests)) == (1, 1)
        with pytest.raises(ChannelProblem, match="answered 500") as found:
            send("webpush:ana")
        assert found.value.retry


@pytest.mark.parametrize("status", ["404 Not Found", "410 Gone"])
def test_a_browser_that_is_gone_is_forgotten(status: str, loopback_targets: None) -> None:
    with Sink(in_turn(servers.http(status=status))) as gone:
        subscribed("ana", gone.url("/1"))
        with pytest.raises(ChannelProblem, match="no longer subscribed") as found:
            send()
    assert not found.value.retry
    assert not PushSubscription.objects.exists()
    with pytest.raises(ChannelProblem, match="nobody has subscribed a browser") as found:
        send()
    assert not found.value.retry
    with pytest.raises(ChannelProblem, match="ana has subscribed no browser"):
        send("webpush:ana")


def test_a_refusal_is_for_good_and_nobody_there_is_not(loopback_targets: None) -> None:
    with Sink(in_turn(servers.http(status="403 Forbidden"))) as refusing:
        subscribed("ana", refusing.url("/1"))
        with pytest.raises(ChannelProblem) as found:
            send()
        assert not found.value.retry
    PushSubscription.objects.all().delete()
    with servers.refusing_port() as port:
        subscribed("ana", f"http://127.0.0.1:{port}/")
        with pytest.raises(ChannelProblem) as found:
            send()
        assert found.value.retry


def test_a_browser_cannot_make_us_reach_what_is_private() -> None:
    with Sink() as sink:
        subscribed("ana", sink.url("/1"))
        with pytest.raises(ChannelProblem, match="WSMON_ALLOW_PRIVATE_TARGETS") as found:
            send()
        assert (sink.requests, found.value.retry) == ([], False)


def test_what_cannot_be_decrypted_any_more_is_a_problem() -> None:
    subscribed("ana", "https://push.example.com/1")
    PushSubscription.objects.update(encrypted=b"nonsense")
    with pytest.raises(ChannelProblem, match="no key"):
        send()


def test_the_same_browser_is_kept_once_and_too_many_are_not() -> None:
    told, _ = subscription("https://push.example.com/1")
    ana = User.objects.create_user("ana")
    ben = User.objects.create_user("ben")
    push.subscribe(ana, told, "x", ACTOR)
    push.subscribe(ben, told, "x", ACTOR)
    assert PushSubscription.objects.get().user == ben
    for number in range(push.MOST_PER_PERSON + 2):
        push.subscribe(ana, subscription(f"https://push.example.com/a{number}")[0], "x", ACTOR)
    assert PushSubscription.objects.filter(user=ana).count() == push.MOST_PER_PERSON
    assert str(PushSubscription.objects.filter(user=ana).first()) == "x"


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": "ftp://x/"},
        {"endpoint": "https://user@x/"},
        {"endpoint": 7},
        {"endpoint": "https://x/" + "y" * 3000},
        {"keys": {}},
        {"keys": {"p256dh": "AAAA", "auth": "AAAA"}},
        {"keys": None},
    ],
)
def test_what_is_no_subscription_is_refused(change: dict[str, Any]) -> None:
    told, _ = subscription("https://push.example.com/1")
    with pytest.raises(ValueError, match=r"subscription|keys"):
        push.subscribe(User.objects.create_user("ana"), told | change, "x", ACTOR)


def test_a_long_message_still_fits() -> None:
    told, _ = subscription("https://push.example.com/1")
    long = Message("1", "opened", "critical", "t" * 200, "ä" * 5_000, "http://x/" + "y" * 400)
    _, body = push.sealed(told, long)
    assert len(body) <= 4_096
