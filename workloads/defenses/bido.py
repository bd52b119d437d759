"""BiDO: layers that depend less on the image and more on the label."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from workloads.defenses.base import DEFENSES, Batch, Defense, DefenseConfig
from workloads.models.base import Classifier, hook_stages

RIDGE = 1e-5  # times the batch size, on the kernel matrix that is inverted


class BidoConfig(DefenseConfig):
    """How dependence is measured and weighted."""

    version: ClassVar = 3

    kind: Literal["bido"] = "bido"
    measure: Literal["hsic", "coco"] = "hsic"
    """How the dependence between a layer and the image or label is measured."""
    image_weight: NonNegativeFloat = 0.05
    """Weight of the term that minimises the dependence between each layer and the image."""
    label_weight: NonNegativeFloat = 0.5
    """Weight of the term that maximises the dependence between each layer and the label. Values of COCO are small: the
    literature takes weights of 1 and 50 with it."""
    sigma: PositiveFloat = 5.0
    """Width of the Gaussian kernels, in units of the root mean square distance per feature."""
    label_kernel: Literal["linear", "gaussian", "imq"] = "linear"
    """Kernel on the targets; `imq` is the inverse multiquadric, 1 / sqrt(1 + d^2)."""
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
    capturable: ClassVar = False  # solvers of libraries look at the host
    config: BidoConfig

    def start(self, model: Classifier) -> None:
        """Hook every stage of the model."""
        self._outputs: list[Tensor] = []
        self._hooks = hook_stages(model, self._keep_output)

    def _keep_output(self, layer: nn.Module, output: Tensor) -> None:
        if layer.training:
            self._outputs.append(output)

    def penalty(self, batch: Batch) -> Tensor:
        """Dependence on the images, weighted, minus that on the labels, over all stages."""
        outputs, self._outputs = self._outputs, []
        image_kernel = gaussian_kernel(batch.images.detach(), self.config.sigma)
        label_kernel = kernel_of_labels(batch.targets, self.config)
        total = batch.images.new_zeros(())
        for output in outputs:
            kernel = gaussian_kernel(output.float(), self.config.sigma)
            on_image, on_label = self._dependence(kernel, image_kernel), self._dependence(kernel, label_kernel)
            total = total + self.config.image_weight * on_image - self.config.label_weight * on_label
        return total.to(batch.images.dtype)

    def _dependence(self, first: Tensor, second: Tensor) -> Tensor:
        if self.config.measure == "coco":
            return coco(first, second)
        return hsic(first, second) if self.config.fidelity == "sound" else hsic_as_published(first, second)

    def finish(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()


def gaussian_kernel(rows: Tensor, sigma: float) -> Tensor:
    """Kernel matrix exp(-d^2 / (2 sigma^2 D)) of all rows. Shape: (B, ...), D features per row, to (B, B)."""
    flat = rows.flatten(1)
    return (-_squared_distances(flat) / (2 * sigma**2 * flat.shape[1])).exp()


def kernel_of_labels(targets: Tensor, config: BidoConfig) -> Tensor:
    """Kernel matrix of the targets, by `label_kernel`. Shape: (B, K) class probabilities to (B, B)."""
    match config.label_kernel:
        case "linear":
            return targets @ targets.T
        case "gaussian":
            return gaussian_kernel(targets, config.sigma)
        case "imq":
            return (_squared_distances(targets) + 1).rsqrt()


def hsic(first: Tensor, second: Tensor) -> Tensor:
    """Normalised HSIC of two kernel matrices: the trace of the product of A (A + ridge)^-1 over both, A centred.

    In double precision and centred on both sides: in single precision, as published, the values are right but the
    gradients are lost. Shape: (B, B), (B, B) to ().
    """
    left, right = (_shrunk(centred(kernel.double())) for kernel in (first, second))
    return (left * right.T).sum()


def hsic_as_published(first: Tensor, second: Tensor) -> Tensor:
    """The same in the authors' arithmetic: centred on the right only, inverted explicitly, in the inputs' precision.

    Shape: (B, B), (B, B) to ().
    """

    def shrunk(kernel: Tensor) -> Tensor:
        right = kernel - kernel.mean(1, keepdim=True)
        inverse, _ = torch.linalg.inv_ex(right + _ridge(kernel))
        return right @ inverse

    return (shrunk(first) * shrunk(second).T).sum()


def coco(first: Tensor, second: Tensor) -> Tensor:
    """Constrained covariance with the Frobenius norm, as published; the textbook takes the spectral norm.

    Shape: (B, B), (B, B) to ().
    """
    product = centred(first.double()) @ centred(second.double())
    return torch.linalg.matrix_norm(product).sqrt() / len(first)


def centred(kernel: Tensor) -> Tensor:
    """H K H with H = I - 1/B, the kernel matrix of the rows less their mean. Shape: (B, B), kept."""
    return kernel - kernel.mean(0, keepdim=True) - kernel.mean(1, keepdim=True) + kernel.mean()


def _shrunk(kernel: Tensor) -> Tensor:
    solution, _ = torch.linalg.solve_ex(kernel + _ridge(kernel), kernel)  # the checking form waits for a GPU
    return solution


def _ridge(kernel: Tensor) -> Tensor:
    size = len(kernel)
    return RIDGE * size * torch.eye(size, dtype=kernel.dtype, device=kernel.device)


def _squared_distances(rows: Tensor) -> Tensor:
    squares = rows.square().sum(1)
    return (squares[:, None] + squares[None] - 2 * rows @ rows.T).abs()
