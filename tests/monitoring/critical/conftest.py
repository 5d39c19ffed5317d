"""What tests of critical days share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from monitoring.critical import effects, inforce


@pytest.fixture(autouse=True)
def forget_critical_days() -> Iterator[None]:
    """Nothing that a process keeps of another test's calendar."""
    inforce.forget()
    effects.forget()
    yield
    inforce.forget()
    effects.forget()
