"""Random numbers as a function of a key and a counter: any of them can be computed alone, on any device, in any order.

Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011, Philox 4x32 with ten rounds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

ROUNDS = 10
MASK = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


Word = int | Tensor
"""A word in [0, 2^32), as a Python number or as a tensor without dimensions."""


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Word, Word]) -> Tensor:
    """Four random words for each counter.

    Args:
        counter: four words, int64 tensors in [0, 2^32) that broadcast to one shape.
        key: two words; tensors are int64.

    Shape: (...) to (..., 4), int64 in [0, 2^32).
    """
    first, second, third, fourth = torch.broadcast_tensors(*counter)
    # Two words in each tensor: half of the operations, which cost more than the numbers where there are few.
    left, right, shape = torch.stack((first, third)), torch.stack((second, fourth)), (2, *(1,) * first.ndim)
    multipliers = torch.stack([torch.full((), number, device=first.device) for number in MULTIPLIERS]).view(shape)
    for keys in _round_keys(key, first.device):
        # A product of two words wraps in int64, but keeps all of its 64 bits.
        products = (left * multipliers).flip(0)
        left, right = ((products >> 32) & MASK) ^ right ^ keys.view(shape), products & MASK
    return torch.stack((left[0], right[0], left[1], right[1]), -1)


def _round_keys(key: tuple[Word, Word], device: torch.device) -> Sequence[Tensor]:
    """Both words of the key in each round. Shape: (2,) each."""
    rounds = torch.arange(ROUNDS, device=device)
    return torch.stack([(rounds * step + word) & MASK for word, step in zip(key, KEY_STEPS, strict=True)]).unbind(1)


def key_of(name: str) -> tuple[int, int]:
    """The key that a name stands for: the first 64 bits of its SHA-256."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:8], "big")


def uniform(words: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform numbers in [0, 1), exact in either precision: of 24 bits as float32, of 32 bits as float64."""
    if dtype == torch.float64:
        return words.double() * 2.0**-32
    return (words >> 8).float() * 2.0**-24


def normal(words: Tensor) -> Tensor:
    """Standard normal numbers, float32, by the method of Box and Muller. Shape: (..., n), n even, kept.

    They are computed in float64 and then rounded, so that the last bits of a device's logarithm and cosine do not
    show. The largest is 6.7.
    """
    first, second = words.unflatten(-1, (-1, 2)).unbind(-1)
    radius = (-2 * ((first + 1).double() * 2.0**-32).log()).sqrt()
    angle = second.double() * (2.0**-31 * torch.pi)
    return torch.stack((radius * angle.cos(), radius * angle.sin()), -1).flatten(-2).float()


def integers(words: Tensor, bound: Word) -> Tensor:
    """Integers in [0, bound), for a bound of at most 2^31; a value's probability is off by at most 2^-32."""
    return (words * bound) >> 32
