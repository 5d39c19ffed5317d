"""What to do about a service that does not work: one sentence, by what was found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from wsmon.vocabulary import Category, Status


class Finding(Protocol):
    """What advice is given on."""

    @property
    def kind(self) -> str: ...

    @property
    def category(self) -> str: ...


BY_CATEGORY: dict[str, str] = {
    Category.NETWORK_ERROR: "The connection is refused or breaks off. If others reach it, look at our own network.",
    Category.DNS_ERROR: "Its name cannot be resolved. Check the host name, then our resolver.",
    Category.TLS_ERROR: "Its certificate is not accepted. If it is yours, renew it; if not, its owner must.",
    Category.TIMEOUT_ERROR: "It takes longer than the timeout. Wait, or use another way meanwhile.",
    Category.AUTHENTICATION_ERROR: "The vendor answers but refuses us: replace the credential or its permissions.",
    Category.RATE_LIMITED: "We call it more often than allowed: lengthen the interval or raise the limit.",
    Category.CLIENT_ERROR: "It refuses our request: check the check's options.",
    Category.SERVER_ERROR: "It answers with a fault of its own. Nothing to do here but wait or fall back.",
    Category.VALIDATION_ERROR: "It answers, but not what was expected. Compare the answer with the check's options.",
    Category.CONFIGURATION_ERROR: "Our own configuration is at fault: the message says where.",
    Category.UNKNOWN_ERROR: "A fault of wsmon itself: see its log.",
}


HEARTBEAT = "The job was late or said that it failed: look at the job, then at its way to wsmon."
"""Whatever the category: nothing was probed, wsmon was called, or not."""

HELD = "Its breaker refuses calls until a trial succeeds. Wait, or use another way meanwhile."
"""Whatever its checks last found: they worked, or have not failed often enough yet."""

SLOW = "It works, too slowly. Wait, or use another way meanwhile."


def advice(status: Status, cause: Finding | None, missing: Sequence[str]) -> str:
    """A sentence that says what to do; empty when there is nothing to do.

    ``cause`` is the finding that explains the status; None while the last one was better than the status.
    """
    if status is Status.NOT_CONFIGURED or (missing and status in (Status.UNKNOWN, Status.HEALTHY)):
        return f"Set {', '.join(missing)} in the environment, or store it in the admin." if missing else ""
    if status not in (Status.CRITICAL, Status.ERROR, Status.DEGRADED):
        return ""
    if cause is None:
        return "The last probe was better: nothing to do but wait until that is confirmed."
    if cause.kind == "heartbeat":
        return HEARTBEAT
    if not cause.category and status is Status.DEGRADED:
        return SLOW
    return BY_CATEGORY.get(cause.category, "")
