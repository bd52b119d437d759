"""Cumulative sums by blocks against torch's own, which on a CPU adds one number after another."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from workloads.core.cumulative_sum import BLOCK, by_blocks
from workloads.core.randomness import generator


@pytest.mark.parametrize("length", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 3, BLOCK**2, BLOCK**2 + 1])
def test_sums_of_whole_numbers_are_exact(length: int) -> None:
    values = torch.randint(-1000, 1000, (2, 3, length), generator=generator("test", length))
    assert torch.equal(by_blocks(values.double()), values.cumsum(-1).double())


def test_sums_of_single_numbers_are_rounded_once() -> None:
    values = torch.rand(1, 300, generator=generator("test", "single"))
    sums, exact = by_blocks(values), Fraction(0)
    for value, total in zip(values[0].tolist(), sums[0].tolist(), strict=True):
        exact += Fraction(value)
        assert total == torch.tensor(float(exact)).item()
    assert sums.dtype == torch.float32


def test_a_row_without_numbers_has_no_sums() -> None:
    assert by_blocks(torch.zeros(2, 0)).shape == (2, 0)
