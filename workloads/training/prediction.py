"""What a classifier says about images, in batches: logits, features, and the mean colour that it sees."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from workloads.datasets.resident import DeviceImages
from workloads.models.base import Classifier


@torch.no_grad()
def predict(
    model: Callable[[Tensor], Tensor], images: Tensor, *, device: torch.device, batch_size: int = 256
) -> Tensor:
    """Logits of uint8 images, by a network in eval mode or a black box; on the CPU.

    Shape: (N, C, H, W) to (N, classes).
    """
    return torch.cat([model(unit_range(batch.to(device))) for batch in images.split(batch_size)]).cpu()


@torch.no_grad()
def count_correct(model: Classifier, images: DeviceImages, *, batch_size: int = 256) -> int:
    """How many images are classified as who they show, in eval mode; one number is read from the device."""
    model.eval()
    correct = torch.zeros((), dtype=torch.int64, device=images.identities.device)
    positions = (torch.arange(len(images), device=device).split(batch_size) for device in ("cpu", correct.device))
    for on_host, indices in zip(*positions, strict=True):
        logits = model(unit_range(images.take(indices, on_host=on_host)))
        correct += (logits.argmax(1) == images.identities[indices]).sum()
    return int(correct)


@torch.no_grad()
def features_of(model: Classifier, images: Tensor, *, batch_size: int = 256) -> Tensor:
    """Penultimate features in eval mode, on the CPU. Shape: (N, C, H, W), uint8 or float in [0, 1], to (N, F)."""
    model.eval()
    batches = []
    for batch in images.split(batch_size):
        unit = unit_range(batch) if batch.dtype == torch.uint8 else batch
        batches.append(model.features(model.normalize(unit.to(model.mean.device))).cpu())
    return torch.cat(batches)


def channel_mean(model: Classifier, images: Tensor) -> Tensor:
    """Mean of uint8 images per channel, after the model's normalisation. Shape: (N, C, H, W) to (C,), on the CPU."""
    mean = images.double().mean((0, 2, 3)).div(255).float()
    return (mean - model.mean.cpu().flatten()) / model.std.cpu().flatten()


def unit_range(images: Tensor) -> Tensor:
    """Images in [0, 1] from uint8. Shape: kept."""
    return images.float().div_(255)
