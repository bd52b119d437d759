"""Counter-based random numbers: published words, and the distributions made of them."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from workloads.core.philox import MASK, integers, normal, philox, uniform
from workloads.core.randomness import Draws

# Known answers of philox4x32-10 in the authors' library Random123: counter, key, words. The third are digits of pi.
KNOWN_ANSWERS = {
    "zeros": ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    "ones": ((MASK,) * 4, (MASK,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    "pi": (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
}


@pytest.mark.parametrize("name", KNOWN_ANSWERS)
def test_words_are_those_of_the_authors(name: str) -> None:
    counter, key, words = KNOWN_ANSWERS[name]
    first, second, third, fourth = (torch.tensor(word) for word in counter)
    assert philox((first, second, third, fourth), key).tolist() == list(words)


def draws(rows: int = 1) -> Draws:
    return Draws("test", torch.stack((torch.arange(rows), torch.zeros(rows).long(), torch.full((rows,), 7)), 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_numbers_are_uniform(dtype: torch.dtype) -> None:
    numbers = draws().uniform(20_000, dtype)[0]
    assert numbers.dtype == dtype
    assert stats.kstest(numbers.numpy(), "uniform").pvalue > 0.01


def test_uniform_numbers_reach_0_and_stay_below_1() -> None:
    words = torch.tensor([0, MASK])
    assert uniform(words).tolist() == [0.0, 1 - 2.0**-24]
    assert uniform(words, torch.float64).tolist() == [0.0, 1 - 2.0**-32]


def test_normal_numbers_are_normal() -> None:
    numbers = draws().normal(20_001)
    assert numbers.shape == (1, 20_001)
    assert stats.kstest(numbers[0].numpy(), "norm").pvalue > 0.01


def test_normal_numbers_come_from_the_words_as_box_and_muller_have_it() -> None:
    first, second = 12345678, 3000000000
    radius = math.sqrt(-2 * math.log((first + 1) / 2**32))
    angle = 2 * math.pi * second / 2**32
    expected = [radius * math.cos(angle), radius * math.sin(angle)]
    assert normal(torch.tensor([first, second])).tolist() == pytest.approx(expected, rel=1e-6)


def test_the_smallest_word_gives_the_largest_normal_number() -> None:
    assert normal(torch.tensor([0, 0])).tolist() == pytest.approx([math.sqrt(2 * 32 * math.log(2)), 0.0])


def test_integers_are_uniform_below_their_bound() -> None:
    counts = draws().integers(7, 70_000)[0].bincount()
    assert len(counts) == 7
    assert stats.chisquare(counts.numpy()).pvalue > 0.01
    assert integers(torch.tensor([0, MASK]), 7).tolist() == [0, 6]


def test_rows_are_independent() -> None:
    """Correlations of 1000 numbers have a standard error of 1 / sqrt(1000)."""
    correlations = torch.corrcoef(draws(20).normal(1000)) - torch.eye(20)
    assert correlations.abs().max() < 5 / math.sqrt(1000)


@pytest.mark.parametrize("size", [1, 5, 8])
def test_the_numbers_of_a_row_do_not_depend_on_its_batch_or_on_how_many_are_drawn(size: int) -> None:
    def numbers(of: Draws) -> list[Tensor]:
        return [of.uniform(size), of.normal(size), of.integers(9, size)]

    alone = Draws("test", draws(6).rows[4:5])
    for together, single in zip(numbers(draws(6)), numbers(alone), strict=True):
        assert torch.equal(together[4:5], single)
    assert torch.equal(draws(6).normal(20)[:, :size], draws(6).normal(size))


def test_numbers_for_another_purpose_are_others() -> None:
    plain, named = draws().uniform(1000), draws().named("view", 3).uniform(1000)
    assert (plain != named).float().mean() > 0.99
    assert torch.equal(draws().named("view", 3).uniform(5), draws().named("view").named(3).uniform(5))


def test_shared_numbers_are_the_same_for_all_rows() -> None:
    numbers = draws(4).shared().uniform(9)
    assert torch.equal(numbers, numbers[:1].expand_as(numbers))
