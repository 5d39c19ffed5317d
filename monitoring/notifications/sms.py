"""SMS by Twilio: ``twilio:+15551234,+15555678``, with the credentials that its service has, or the environment."""

from __future__ import annotations

import re

import providers
from monitoring import variables
from monitoring.models import Service
from monitoring.notifications.messages import Message
from monitoring.notifications.problems import ChannelProblem
from providers.twilio import SmsProblem, send_sms
from wsmon.http import http_client
from wsmon.secrets import Unresolvable

SCHEME = "twilio"
MOST_NUMBERS = 20
_NUMBER = re.compile(r"\+[1-9]\d{6,14}")
"""E.164."""


def read(address: str) -> tuple[str, ...]:
    """The numbers of a channel's address; raise ValueError."""
    numbers = tuple(number.strip() for number in address.partition(":")[2].split(","))
    if not all(_NUMBER.fullmatch(number) for number in numbers):
        raise ValueError("must be twilio: and telephone numbers such as +15551234567, separated by commas")
    if len(numbers) > MOST_NUMBERS:
        raise ValueError(f"may name {MOST_NUMBERS} numbers")
    return numbers


def send(address: str, message: Message, timeout: float) -> None:
    """Send the short form to each number; raise :class:`ChannelProblem` when nobody got it, or not everybody."""
    numbers = read(address)
    try:
        values = _values()
    except Unresolvable as problem:
        raise ChannelProblem(str(problem), retry=False) from None
    problems: list[SmsProblem] = []
    for number in numbers:
        try:
            send_sms(http_client(), values, number, message.short, timeout / len(numbers))
        except SmsProblem as problem:
            problems.append(problem)
    if not problems:
        return
    worst = problems[0]
    some = len(problems) < len(numbers)  # the others have it: a further try would tell them again
    words = f"{len(problems)} of {len(numbers)} did not get it: {worst.text}" if some else worst.text
    raise ChannelProblem(words, retry=worst.retry and not some, retry_after=worst.retry_after)


def _values() -> dict[str, str]:
    service = Service.objects.filter(provider="twilio", archived_at=None).order_by("id").first()
    credentials = variables.credentials_of(service.id) if service else "{}"
    return variables.resolve(providers.get("twilio"), credentials)
