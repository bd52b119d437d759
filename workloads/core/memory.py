"""The memory that a computation on tensors needs, measured or worked out on torch's meta device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

GIB = 2**30


def kept_for_backward(forward: Callable[[], object]) -> list[int]:
    """Bytes of each tensor that a forward pass keeps for its backward pass; weights and other leaves are left out."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if not tensor.is_leaf:  # weights are there once, whatever the number of rows
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage.nbytes()  # not its address, which is 0 for every meta tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        forward()
    return list(kept.values())


def weight_bytes(network: nn.Module) -> int:
    """Bytes of all weights and buffers."""
    return sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
