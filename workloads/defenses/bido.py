"""BiDO: layers that depend less on the image and more on the label."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from workloads.defenses.base import DEFENSES, Batch, Defense, DefenseConfig
from workloads.models.base import Classifier

RIDGE = 1e-5  # times the batch size, on the kernel matrix that is inverted


class BidoConfig(DefenseConfig):
    kind: Literal["bido"] = "bido"
    measure: Literal["hsic", "coco"] = "hsic"
    image_weight: NonNegativeFloat = 0.05
    """On the dependence of each layer on the image, which is made small."""
    label_weight: NonNegativeFloat = 0.5
    """On the dependence of each layer on the label, which is made large. COCO is small by nature: the literature has
    1 and 50."""
    sigma: PositiveFloat = 5.0
    """Width of the Gaussian kernels, in root mean square distances of one feature."""
    label_kernel: Literal["linear", "gaussian", "imq"] = "linear"
    fidelity: Literal["sound", "official"] = "sound"
    """`official`: single precision, centred on one side and an explicit inverse, as published; its HSIC gradients
    are mostly rounding noise. `sound`: the same quantity in double precision with a solve."""


@DEFENSES.register(BidoConfig)
class Bido(Defense):
    """Bilateral dependency optimisation: penalise what layers know of the image, reward what they know of the label.

    The image is the one the network saw: with random erasing, the erased one.

    Source: Peng et al., "Bilateral Dependency Optimization: Defending Against Model-inversion Attacks", KDD 2022.
    """

    couples_images: ClassVar = True
    config: BidoConfig

    def start(self, model: Classifier) -> None:
        self._hidden: list[Tensor] = []
        self._hooks = [stage.register_forward_hook(self._keep) for _, stage in model.stages()]

    def _keep(self, stage: nn.Module, inputs: Any, output: Tensor) -> None:
        if stage.training:
            self._hidden.append(output)

    def penalty(self, batch: Batch) -> Tensor:
        hidden, self._hidden = self._hidden, []
        image_kernel = gaussian_kernel(batch.images.detach(), self.config.sigma)
        label_kernel = kernel_of_labels(batch.targets, self.config)
        total = batch.images.new_zeros(())
        for layer in hidden:
            kernel = gaussian_kernel(layer.float(), self.config.sigma)
            image, label = (self._dependence(kernel, other) for other in (image_kernel, label_kernel))
            total = total + self.config.image_weight * image - self.config.label_weight * label
        return total.to(batch.images.dtype)

    def _dependence(self, first: Tensor, second: Tensor) -> Tensor:
        if self.config.measure == "coco":
            return coco(first, second)
        return hsic(first, second) if self.config.fidelity == "sound" else hsic_as_published(first, second)

    def finish(self) -> None:
        for hook in self._hooks:
            hook.remove()


def gaussian_kernel(rows: Tensor, sigma: float) -> Tensor:
    """exp(-d^2 / (2 sigma^2 D)) between all rows. Shape: (B, ...), D features a row, to (B, B)."""
    flat = rows.flatten(1)
    return (-_squared_distances(flat) / (2 * sigma**2 * flat.shape[1])).exp()


def kernel_of_labels(targets: Tensor, config: BidoConfig) -> Tensor:
    """Shape: (B, K) class probabilities to (B, B)."""
    match config.label_kernel:
        case "linear":
            return targets @ targets.T
        case "gaussian":
            return gaussian_kernel(targets, config.sigma)
        case "imq":
            return (_squared_distances(targets) + 1).rsqrt()


def hsic(first: Tensor, second: Tensor) -> Tensor:
    """Normalised HSIC of two kernel matrices: the trace of the product of A (A + ridge)^-1 over both, A centred.

    In double precision and centred on both sides: in single precision as published the values survive and the
    gradients do not. Shape: (B, B), (B, B) to ().
    """
    left, right = (_shrunk(centred(kernel.double())) for kernel in (first, second))
    return (left * right.T).sum()


def hsic_as_published(first: Tensor, second: Tensor) -> Tensor:
    """The same by the authors' arithmetic: centred on the right only, inverted explicitly, in the given precision."""

    def shrunk(kernel: Tensor) -> Tensor:
        size = len(kernel)
        right = kernel - kernel.mean(1, keepdim=True)
        return right @ torch.linalg.inv(right + RIDGE * size * torch.eye(size).to(kernel))

    return (shrunk(first) * shrunk(second).T).sum()


def coco(first: Tensor, second: Tensor) -> Tensor:
    """Constrained covariance with the Frobenius norm, as published; the textbook takes the spectral one."""
    product = centred(first.double()) @ centred(second.double())
    return torch.linalg.matrix_norm(product).sqrt() / len(first)


def centred(kernel: Tensor) -> Tensor:
    """H K H with H = I - 1/B. Shape: (B, B), kept."""
    return kernel - kernel.mean(0, keepdim=True) - kernel.mean(1, keepdim=True) + kernel.mean()


def _shrunk(kernel: Tensor) -> Tensor:
    size = len(kernel)
    return torch.linalg.solve(kernel + RIDGE * size * torch.eye(size).to(kernel), kernel)


def _squared_distances(rows: Tensor) -> Tensor:
    squares = rows.square().sum(1)
    return (squares[:, None] + squares[None] - 2 * rows @ rows.T).abs()
