"""Sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsmon.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [(20, 20), ("20B", 20), ("64kB", 64_000), ("64 KiB", 65_536), ("1MB", 1_000_000), ("1mib", 1_048_576), ("0b", 0)],
)
def test_it_reads_a_number_with_its_unit(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "5", "MB", "-1MB", "1.5MB", "1 GB", "1 M B", True, 1.5, None, [1], "١MB"])
def test_it_refuses_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="is not a size such as 20000, 64kB, 1MB"):
        parse_size(text)


@given(st.integers(0, 2**40) | st.integers(0, 5_000).map(lambda number: number * 1_000_000))
def test_what_it_writes_reads_as_the_same(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_it_writes_the_largest_unit_that_is_exact() -> None:
    assert [format_size(size) for size in (999, 1_500, 2_000, 2_048, 3_000_000, 1_048_576)] == [
        999, 1_500, "2kB", "2KiB", "3MB", "1MiB",
    ]  # fmt: skip
