"""What the tests of the outbound client share."""

from __future__ import annotations

from typing import Any

import pytest

from wsmon.http import Client, HttpError


def failure(client: Client, url: str, timeout: float = 2.0, **options: Any) -> HttpError:
    with pytest.raises(HttpError) as caught:
        client.get(url, timeout=timeout, **options)
    assert caught.value.timings.total_ms is not None
    assert str(caught.value) == caught.value.message
    return caught.value
