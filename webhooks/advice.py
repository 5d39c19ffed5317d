"""What to do about deliveries that fail: one sentence, by what the destination answered. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from wsmon.vocabulary import Category

BY_STATUS: Mapping[int, str] = {
    400: "{at} does not accept the content: fix {at}, then replay.",
    401: "{at} refuses our signature or credential: compare the signing secret at both ends, then replay.",
    403: "{at} refuses our signature or credential: compare the signing secret at both ends, then replay.",
    404: "{at} knows no such path: compare the URL with what {at} serves, then replay.",
    405: "{at} takes no POST at this path: compare the URL with what {at} serves, then replay.",
    409: "{at} says that it has this already. If that is so there is nothing to do: cancel rather than replay.",
    410: "{at} says that it is gone for good, and was disabled. Change its URL, enable it, then replay.",
    413: "The payload is larger than {at} takes: raise its limit, then replay.",
    422: "{at} does not accept the content: fix {at}, then replay.",
    429: "We send more than {at} takes: lower its max_per_second, then replay slowly.",
    501: "{at} does not do that at this path: compare the URL with what {at} serves, then replay.",
}
BY_CATEGORY: Mapping[str, str] = {
    Category.NETWORK_ERROR: "Nothing listens there, or the connection breaks off: see that {at} runs, then replay.",
    Category.DNS_ERROR: "The name of {at} cannot be resolved: check its URL and the resolver, then replay.",
    Category.TLS_ERROR: "The certificate of {at} is not accepted: have it renewed, then replay.",
    Category.TIMEOUT_ERROR: "{at} takes longer than its timeout: let it answer first and work later, then replay.",
    Category.AUTHENTICATION_ERROR: BY_STATUS[401],
    Category.RATE_LIMITED: BY_STATUS[429],
    Category.CLIENT_ERROR: BY_STATUS[422],
    Category.SERVER_ERROR: "{at} fails on its own side: look at its log, fix it, then replay.",
    Category.VALIDATION_ERROR: "{at} answers with something that is no answer to a webhook: look at it, then replay.",
    Category.BREAKER_OPEN: "The breaker of {at} is open: what waits goes out when a trial succeeds.",
    Category.CONFIGURATION_ERROR: "Our own configuration is at fault: the message says where. Fix it, then replay.",
    Category.UNKNOWN_ERROR: "A fault of wsmon itself: see its log.",
}
HELD: Mapping[str, str] = {
    "breaker": "They go out by themselves when {at} answers. Replaying now would not help: its breaker is open.",
    "paused": "{at} is paused: they go out when somebody resumes it.",
    "disabled": "{at} is disabled: they go out when it is enabled again.",
}
RETRIED = "They are tried again by the schedule of {at}; nothing to do yet."
REPLAYED = "All of them were sent again since. Nothing to do."


def advice(at: str, category: str, http_status: int | None, *, failed: int, waiting: int, hold: str = "") -> str:
    """What to do about deliveries to ``at``, a destination's name.

    ``failed`` of them used up their tries and wait for a person, ``waiting`` are tried again. ``hold``: why
    the destination gets nothing now ("breaker", "paused", "disabled"), or empty.
    """
    if not failed:
        words = (HELD.get(hold) or RETRIED) if waiting else REPLAYED
    else:
        words = BY_STATUS.get(http_status or 0) or BY_CATEGORY.get(category, "")
    text = words.format(at=at)
    return text[:1].upper() + text[1:] if words.startswith("{at}") and at.startswith("the ") else text
