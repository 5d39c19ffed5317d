"""The secrets that wsmon signs with: which are good enough, and the key that each of them means.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme
"""

from __future__ import annotations

from providers import signing

PREFIX = "whsec_"
SHORTEST_TEXT = 16
_BYTES = range(24, 65)
"""The specification's lengths of a key."""


def key_of(secret: str) -> bytes:
    """The key of a signing secret: base64 of 24 to 64 bytes after ``whsec_``; any other text is its own bytes.

    Raises ValueError, which says what is wrong and does not quote the secret.
    """
    problem = signing.plain_problem(secret, SHORTEST_TEXT)
    if problem:
        raise ValueError(problem)
    if not secret.startswith(PREFIX):
        return secret.encode()
    key = signing.from_base64(secret.removeprefix(PREFIX))
    if key is None:
        raise ValueError("is not padded base64 after whsec_")
    if len(key) not in _BYTES:
        raise ValueError("is not the base64 of 24 to 64 bytes")
    return key


def problem_of(secret: str) -> str | None:
    """What is wrong with a signing secret, None: nothing."""
    try:
        key_of(secret)
    except ValueError as error:
        return str(error)
    return None
