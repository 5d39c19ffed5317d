"""Sending one message by one channel. Which kind a channel is, its address's scheme says."""

from __future__ import annotations

import socket
from collections.abc import Callable

from monitoring.models import Channel
from monitoring.notifications import bridge, mail, push, sms
from monitoring.notifications.claims import SEND_SECONDS
from monitoring.notifications.deadlines import within
from monitoring.notifications.messages import Message
from monitoring.notifications.problems import ChannelProblem
from wsmon.http import guarded_connect, http_client
from wsmon.secrets import Unresolvable, decrypt, is_reference, resolve

__all__ = ["ChannelProblem", "address_of", "check", "kind_of", "send"]


def send(channel: Channel, message: Message, seconds: float = SEND_SECONDS) -> None:
    """Send a message, within a deadline; raise :class:`ChannelProblem`. Not inside a transaction."""
    address = address_of(channel)
    scheme = scheme_of(address)
    if scheme == sms.SCHEME:
        sms.send(address, message, seconds)
    elif scheme == push.SCHEME:
        push.send(address, message, seconds)
    else:
        within(seconds, _work(scheme, address, message, seconds), "the channel")


def _work(scheme: str, address: str, message: Message, seconds: float) -> Callable[[], None]:
    if scheme in mail.SCHEMES:
        try:
            relay = mail.read(address)
        except ValueError as problem:
            raise ChannelProblem(f"the address {problem}", retry=False) from None
        return lambda: mail.send(relay, message, _connect, seconds)
    guard = http_client().guard
    return lambda: bridge.send(address, message, guard, seconds)


def _connect(host: str, port: int, timeout: float) -> socket.socket:
    return guarded_connect(host, port, timeout)[0]


def address_of(channel: Channel) -> str:
    """A channel's address in clear; raise :class:`ChannelProblem` when it leads nowhere."""
    try:
        if channel.encrypted is not None:
            return decrypt(bytes(channel.encrypted))
        reference: str = channel.reference
        return resolve(reference) if is_reference(reference) else reference
    except Unresolvable as problem:
        raise ChannelProblem(str(problem), retry=False) from None


def scheme_of(address: str) -> str:
    """What stands before the colon."""
    return address.partition(":")[0].lower()


def check(address: str) -> str | None:
    """What is wrong with an address, None: nothing. It is not quoted: it may be a secret."""
    if not address.isprintable() or len(address) > 8_000:
        return "is not one line"
    scheme = scheme_of(address)
    try:
        if scheme in mail.SCHEMES:
            mail.read(address)
        elif scheme == sms.SCHEME:
            sms.read(address)
        elif scheme == push.SCHEME:
            push.read(address)
        else:
            bridge.check(address)
    except ValueError as problem:
        return str(problem)
    return None


def kind_of(channel: Channel) -> str:
    """What a channel is, in a word for people: "mail", "SMS", "browsers", or the service's scheme."""
    try:
        scheme = scheme_of(address_of(channel))
    except ChannelProblem:
        return "not configured"
    return {"smtp": "mail", "smtps": "mail", sms.SCHEME: "SMS", push.SCHEME: "browsers"}.get(scheme, scheme)
