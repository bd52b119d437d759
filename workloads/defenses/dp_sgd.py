"""DP-SGD: clip what each image may contribute to a step, add noise, and account for the privacy that is spent."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from workloads.core.checkpoints import State
from workloads.core.errors import ConfigError
from workloads.defenses.base import DEFENSES, Defense, DefenseConfig, Evidence
from workloads.models.base import Classifier, check_trains, one_line

if TYPE_CHECKING:
    from opacus import GradSampleModule

LARGEST_GROUPS = 32
RANDOM_LAYERS = {"Dropout": "p", "Dropout1d": "p", "Dropout2d": "p", "StochasticDepth": "p", "DropPath": "drop_prob"}
"""Layers of torch, torchvision and timm that draw random numbers in training: the attribute with their probability."""


class DpSgdConfig(DefenseConfig):
    """How much noise to add, and to what."""

    version: ClassVar = 2

    kind: Literal["dp_sgd"] = "dp_sgd"
    noise_multiplier: PositiveFloat = 1.0
    """Standard deviation of the noise in units of `clip`. The 0.01 of the attack literature gives no guarantee at
    all."""
    clip: PositiveFloat = 1.0
    """Largest norm of one image's gradient."""
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    """Probability, in (epsilon, delta)-differential privacy, that the bound epsilon does not hold."""

    def check_combination(self, others: Sequence[DefenseConfig]) -> None:
        """Refuse a defense that ties images of a batch together."""
        coupling = [defense.kind for defense in others if DEFENSES.class_of(defense).couples_images]
        if coupling:
            raise ConfigError(
                f"dp_sgd bounds what one image contributes, and {coupling[0]} ties images of a batch together: "
                "use one of the two."
            )

    def change_model(self, model: Classifier) -> None:
        """Replace batch norms by group norms, and switch off what is random inside blocks that have to be run again.

        Opacus knows the gradients of common layers. A block with weights of its own, such as ConvNeXt's, it runs a
        second time for each image, where dropout and stochastic depth would draw other numbers than the first time.
        """
        from opacus.validators import ModuleValidator

        for parent in list(model.modules()):
            for name, layer in list(parent.named_children()):
                if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                    setattr(parent, name, _group_norm(layer))
        for block in _blocks_run_again(model):
            if any(True for _ in block.buffers()):
                raise _cannot_split(model, f"{type(block).__name__} has buffers beside its weights")
            for layer in block.modules():
                if (probability := RANDOM_LAYERS.get(type(layer).__name__)) is not None:
                    setattr(layer, probability, 0.0)
        if problems := ModuleValidator.validate(model, strict=False):
            raise _cannot_split(model, one_line(problems[0]).partition(". ")[0])

    def check_training(self, model: Classifier) -> None:
        """Try whether every weight gets a gradient for each image."""
        wrapped = _per_image_gradients()(model, batch_first=True, loss_reduction="mean")
        try:
            check_trains(model)
            weights = ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)
            without = [name for name, weight in weights if getattr(weight, "grad_sample", None) is None]
        except ConfigError as error:
            raise _cannot_split(model, one_line(error.__cause__ or error)) from error
        finally:
            wrapped.cleanup()
        if without:
            raise _cannot_split(model, f"{without[0]} has no part in the loss")


@DEFENSES.register(DpSgdConfig)
class DpSgd(Defense):
    """Differentially private training through Opacus, with group norm in place of batch norm.

    Batches are Poisson samples of the images, as the accounting assumes, so their sizes vary. The privacy of one image
    is bounded, not that of a person with many images.

    Source: Abadi et al., "Deep Learning with Differential Privacy", CCS 2016; against model inversion in Wang et al.,
    AAAI 2021, whose batch norm and missing accounting are mended here.
    """

    capturable: ClassVar = False  # batches are of any size, and Opacus counts on the host
    config: DpSgdConfig

    def start(self, model: Classifier) -> None:
        """Wrap the model so that it gives the gradient of every image."""
        self._steps = 0
        self._wrapped = _per_image_gradients()(model, batch_first=True, loss_reduction="mean")

    @property
    def _sample_rate(self) -> float:
        """Probability that an image is part of a batch."""
        return min(self.facts.batch_size / self.facts.images, 1.0)

    def wrap_optimizer(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Clip every image's gradient and add noise to their sum."""
        from opacus.optimizers import DPOptimizer

        self._optimizer = DPOptimizer(
            optimizer,
            noise_multiplier=self.config.noise_multiplier,
            max_grad_norm=self.config.clip,
            expected_batch_size=self.facts.batch_size,
        )
        self._optimizer.attach_step_hook(self._before_step)
        return self._optimizer

    def _before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Count the step, and lay gradients out in memory as their weights are: fused optimisers refuse others."""
        self._steps += 1
        for group in optimizer.param_groups:
            for weight in group["params"]:
                if weight.grad.stride() != weight.stride():
                    weight.grad = torch.empty_like(weight).copy_(weight.grad)

    def begin_epoch(self, epoch: int) -> None:
        """Draw the noise of an epoch from a generator named after it."""
        self._optimizer.generator = self.facts.generator_on_device("dp_sgd/noise", epoch)

    def batches(self, *, generator: torch.Generator) -> Sequence[Tensor]:
        """Each image joins each batch by chance, which privacy accounting assumes."""
        rounds = max(round(1 / self._sample_rate), 1)
        is_sampled = torch.rand(rounds, self.facts.images, generator=generator) < self._sample_rate
        samples = [row.nonzero().flatten() for row in is_sampled]
        # A round without any image would release noise alone. Leaving it out spends no more privacy than is counted.
        return [indices for indices in samples if len(indices)]

    def state(self) -> State:
        """Steps taken, which the privacy spent follows from."""
        return {"steps": self._steps}

    def restore(self, state: State) -> None:
        """Go on counting steps."""
        self._steps = state["steps"]

    def finish(self) -> None:
        """Unwrap the model."""
        self._wrapped.remove_hooks()
        for parameter in self._wrapped.parameters():
            parameter.grad_sample = None

    def evidence(self) -> Evidence:
        """The privacy spent, as epsilon and delta."""
        facts = {
            "epsilon": epsilon(self.config, sample_rate=self._sample_rate, steps=self._steps),
            "delta": self.config.delta,
            "steps": self._steps,
            "sample_rate": self._sample_rate,
        }
        return Evidence(facts, {})


def epsilon(config: DpSgdConfig, *, sample_rate: float, steps: int) -> float:
    """The epsilon of (epsilon, delta)-differential privacy after this number of steps, by Renyi accounting."""
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(config.noise_multiplier, sample_rate, steps)]
    return float(accountant.get_epsilon(delta=config.delta))


@functools.cache
def _per_image_gradients() -> type[GradSampleModule]:
    """Opacus' hooks for the gradient of every image, where two things are other than Opacus has them."""
    from opacus import GradSampleModule
    from opacus.grad_sample.functorch import prepare_layer

    class PerImageGradients(GradSampleModule):  # type: ignore[misc]  # opacus has no types
        """Hooks that allow layers to write into the output of others, and that read any layout of memory.

        Opacus' hooks on modules forbid the first: in-place activations and `+=` fail behind them. A hook on the output
        tensor itself sees its gradient before such a write. Opacus' convolutions assume the second without looking:
        with inputs laid out channels last, their gradients are silently wrong.
        """

        def add_hooks(
            self, *, loss_reduction: str = "mean", batch_first: bool = True, force_functorch: bool = False
        ) -> None:
            """Hook every layer with weights to train."""
            handles: list[RemovableHandle] = []
            self._module.autograd_grad_sample_hooks = self.autograd_grad_sample_hooks = handles
            for layer in self.iterate_submodules(self._module):
                if type(layer) not in self.GRAD_SAMPLERS:
                    prepare_layer(layer, batch_first=batch_first)
                handles.append(layer.register_forward_hook(self.capture_activations_hook))
                handles.append(layer.register_forward_hook(self._hook_output))
            self.enable_hooks()

        def _hook_output(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if not isinstance(output, Tensor):
                raise TypeError(f"{type(layer).__name__} puts out more than one tensor")
            if self.hooks_enabled and layer.training and output.requires_grad and _requires_grad(layer):
                output.register_hook(functools.partial(self._capture, layer))

        def _capture(self, layer: nn.Module, gradient: Tensor) -> None:
            self.capture_backprops_hook(layer, None, (gradient,), loss_reduction="mean", batch_first=True)

        def rearrange_grad_samples(
            self, *, module: nn.Module, backprops: Tensor, loss_reduction: str, batch_first: bool
        ) -> tuple[list[Tensor], Tensor]:
            """Inputs and gradients of a layer, the inputs laid out row by row."""
            inputs, gradients = super().rearrange_grad_samples(
                module=module, backprops=backprops, loss_reduction=loss_reduction, batch_first=batch_first
            )
            # A copy, since `contiguous` keeps the strides of sides of a single pixel.
            return [tensor.clone(memory_format=torch.contiguous_format) for tensor in inputs], gradients

    return PerImageGradients


def _requires_grad(layer: nn.Module) -> bool:
    return any(weight.requires_grad for weight in layer.parameters())


def _blocks_run_again(model: nn.Module) -> Iterator[nn.Module]:
    """Modules with weights whose gradients Opacus does not know; it looks at none inside them."""
    has_own_weights = any(weight.requires_grad for weight in model.parameters(recurse=False))
    if has_own_weights and type(model) not in _per_image_gradients().GRAD_SAMPLERS:
        yield model
    else:
        for child in model.children():
            yield from _blocks_run_again(child)


def _cannot_split(model: Classifier, reason: str) -> ConfigError:
    label = model.config.label
    return ConfigError(f"dp_sgd cannot take {label} apart by images: {reason}. Use another model, such as resnet.")


def _group_norm(norm: nn.modules.batchnorm._BatchNorm) -> nn.Module:
    """Group norm in place of a batch norm, and after it the activation that timm's batch norms contain."""
    group_norm = nn.GroupNorm(_groups(norm.num_features), norm.num_features, eps=norm.eps)
    activations = list(norm.children())
    return nn.Sequential(group_norm, *activations) if activations else group_norm


def _groups(channels: int) -> int:
    """The largest number of groups, up to 32, that divides the channels."""
    return max(groups for groups in range(1, min(channels, LARGEST_GROUPS) + 1) if channels % groups == 0)
