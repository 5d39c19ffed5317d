"""Why a channel did not take a message."""

from __future__ import annotations


class ChannelProblem(Exception):
    """It was not sent. ``text`` says why, without a secret; ``retry``: another try can help.

    ``retry_after`` are the seconds that the other side asks to be left alone, if it does.
    """

    def __init__(self, text: str, *, retry: bool, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.retry = retry
        self.retry_after = retry_after
