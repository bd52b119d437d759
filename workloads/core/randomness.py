"""Named random generators: every draw comes from one, and its stream follows from a job's key and a purpose."""

from __future__ import annotations

import hashlib

import torch


def generator(key: str, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Make the generator for one purpose within one job, at the start of its stream.

    The same key and purpose always give the same stream, so a resumed job needs no stored generator states and the
    order of jobs cannot matter.
    """
    name = "/".join([key, *map(str, purpose)])
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1  # torch takes 63 bits
    return torch.Generator(device=device).manual_seed(seed)
