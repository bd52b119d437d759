"""Images on the device that computes with them: copied there once, or batch by batch where they do not fit."""

from __future__ import annotations

import torch
from torch import Tensor

from workloads.datasets.base import ImageSet

FREE_MEMORY_SHARE = 0.25
"""Most that the images of a data set may take of the memory that a GPU has left."""


class DeviceImages:
    """The images of a set as uint8, from which batches are taken on a device.

    They are the rows of the set they were selected from, which a device holds once for all selections: of other jobs of
    this process too, as long as it keeps the set. Where the set does not fit, batches pass through pinned memory.
    """

    def __init__(self, data: ImageSet, device: torch.device) -> None:
        self.identities = data.identities.to(device)
        """Shape: (N,) int64, on the device."""
        self._device, self._host = device, data.images
        self._resident: Tensor | None = data.images
        self._rows: Tensor | None = None
        if device.type == "cpu":
            return
        original = data.original
        if device not in original.copies and fits(original.images, device):
            original.copies[device] = original.images.to(device)
        self._resident = original.copies.get(device)
        self._rows = None if data.rows is None else data.rows.to(device)

    def __len__(self) -> int:
        return len(self.identities)

    def take(self, indices: Tensor, *, on_host: Tensor) -> Tensor:
        """The images at these positions; the host's copy of the positions serves where the images are on the host.

        Shape: indices and on_host (B,) int64 to (B, C, H, W) uint8.
        """
        if self._resident is None:
            return self._host[on_host].pin_memory().to(self._device, non_blocking=True)
        return self._resident[indices if self._rows is None else self._rows[indices]]


def on_device(images: Tensor, device: torch.device) -> Tensor:
    """The images on a device if it has room for them, else where they are. Shape: (N, C, H, W) uint8."""
    return images.to(device) if fits(images, device) else images


def fits(images: Tensor, device: torch.device) -> bool:
    """Whether a device has enough memory left to keep these images beside what computes with them."""
    return device.type != "cuda" or images.nbytes <= FREE_MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]
