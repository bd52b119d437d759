"""Named random generators: every draw comes from one, and each is a function of a job's key and a purpose."""

from __future__ import annotations

import hashlib

import torch


def generator(key: str, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator for one purpose within one job.

    The same key and purpose give the same stream wherever and whenever they are asked for, so a resumed job need
    not store generator states and the order of jobs cannot matter.
    """
    name = "/".join([key, *map(str, purpose)])
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1  # torch takes 63 bits
    return torch.Generator(device=device).manual_seed(seed)
