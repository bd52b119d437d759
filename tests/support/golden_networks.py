"""The tiny networks behind the golden numbers: 3 x 8 x 8 images, 6 identities, latents of 8."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.support.paths import GOLDEN
from workloads.context import JobContext
from workloads.core.checkpoints import State
from workloads.inversion.attack import Access
from workloads.inversion.gradient_search import GradientAttack
from workloads.inversion.optimizers import Variables
from workloads.inversion.rows import Rows
from workloads.observation.oracles import LabelOracle, WhiteBoxOracle
from workloads.priors.base import Prior, PriorConfig

IDENTITIES = 6
LATENT_SIZE = 8
BLOCKS = 4
MAPS = 6  # channels of the generator's 4 x 4 maps
FEATURES = 12


class TinyGenerator(nn.Module):
    """Shape: (B, 8), with a conditional one also (B,), to (B, 3, 8, 8) in [0, 1]."""

    def __init__(self, *, conditional: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(IDENTITIES, LATENT_SIZE) if conditional else None
        self.stem = nn.Sequential(nn.Linear(LATENT_SIZE, MAPS * 16), nn.BatchNorm1d(MAPS * 16), nn.ReLU())
        self.up = nn.ConvTranspose2d(MAPS, 3, kernel_size=4, stride=2, padding=1)

    def forward(self, latents: Tensor, identities: Tensor | None = None) -> Tensor:
        moved = latents if self.embedding is None else latents + self.embedding(identities)
        return self.up(self.stem(moved).unflatten(1, (MAPS, 4, 4))).sigmoid()


class TinyStyle(nn.Module):
    """A mapping to four styles, and four blocks at 1, 2, 4 and 8 pixels whose colours are summed."""

    w_avg: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(LATENT_SIZE, LATENT_SIZE)
        self.register_buffer("w_avg", torch.zeros(LATENT_SIZE))
        self.constant = nn.Parameter(torch.empty(MAPS, 1, 1))
        self.convs = nn.ModuleList(nn.Conv2d(MAPS, MAPS, 3, padding=1) for _ in range(BLOCKS))
        self.styles = nn.ModuleList(nn.Linear(LATENT_SIZE, MAPS) for _ in range(BLOCKS))
        self.to_rgb = nn.ModuleList(nn.Conv2d(MAPS, 3, 1) for _ in range(BLOCKS))

    def mapping(self, latents: Tensor, *, truncation: float = 1.0, cutoff: int = BLOCKS) -> Tensor:
        """Styles, the first `cutoff` of them pulled to the mean. Shape: (B, 8) to (B, 4, 8)."""
        styles = nn.functional.leaky_relu(self.map(latents), 0.2)[:, None].repeat(1, BLOCKS, 1)
        return torch.cat((self.w_avg + truncation * (styles[:, :cutoff] - self.w_avg), styles[:, cutoff:]), 1)

    def synthesis(
        self,
        styles: Tensor,
        features: Tensor | None = None,
        image: Tensor | None = None,
        *,
        first: int = 0,
        last: int = 3,
    ) -> tuple[Tensor, Tensor]:
        """Features and colours after block `last`, from the features and colours before block `first`."""
        maps = self.constant.expand(len(styles), -1, -1, -1) if features is None else features
        for block in range(first, last + 1):
            maps = maps if block == 0 else nn.functional.interpolate(maps, scale_factor=2)
            moved = self.convs[block](maps) + self.styles[block](styles[:, block])[:, :, None, None]
            maps = nn.functional.leaky_relu(moved, 0.2)
            colour = self.to_rgb[block](maps)
            image = colour if image is None else nn.functional.interpolate(image, scale_factor=2) + colour
        assert image is not None
        return maps, image


class TinyClassifier(nn.Module):
    """Shape: (B, 3, 8, 8) to (B, outputs); without norm it is a critic or a discriminator."""

    def __init__(self, *, width: int, outputs: int, norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, stride in ((3, 1), (width, 2)):
            layers.append(nn.Conv2d(inputs, width, kernel_size=3, stride=stride, padding=1))
            layers.append(nn.BatchNorm2d(width) if norm else nn.Identity())
            layers.append(nn.LeakyReLU(0.2))
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.feature = nn.Linear(width * 16, FEATURES)
        self.head = nn.Linear(FEATURES, outputs)
        self.mean, self.std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)

    def normalize(self, images: Tensor) -> Tensor:
        return images

    def features(self, images: Tensor) -> Tensor:
        return self.feature(self.body(images)).tanh()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


class RecordedPrior(Prior):
    """A prior whose weights were recorded: it is never fitted."""

    latent_size = LATENT_SIZE

    def __init__(self) -> None:
        super().__init__(PriorConfig(kind="recorded"), channels=3, image_size=8, classes=IDENTITIES)

    def fit(self, images: Tensor, *, target: LabelOracle | None = None, context: JobContext) -> None:
        raise NotImplementedError("its weights were recorded")


class TinyPrior(RecordedPrior):
    """The generator, and the network that judges its images."""

    def __init__(self, generator: TinyGenerator, critic: TinyClassifier) -> None:
        super().__init__()
        self.generator, self.critic = generator, critic

    def synthesize(self, latents: Tensor, identities: Tensor | None = None) -> Tensor:
        return self.generator(latents)

    def realism(self, images: Tensor) -> Tensor:
        """The critic's value; of a discriminator with one logit an identity, log p(real) = lse - softplus(lse)."""
        outputs = self.critic(images)
        if outputs.shape[1] == 1:
            return outputs.flatten()
        evidence = outputs.logsumexp(1)
        return evidence - nn.functional.softplus(evidence)


class TinyConditionalPrior(RecordedPrior):
    """The generator of images of identities."""

    conditional = True

    def __init__(self, generator: TinyGenerator) -> None:
        super().__init__()
        self.generator = generator

    def synthesize(self, latents: Tensor, identities: Tensor | None = None) -> Tensor:
        return self.generator(latents, identities)


class TinyNetworks(nn.Module):
    """The networks of the attacks' cases."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = TinyGenerator()
        self.conditional_generator = TinyGenerator(conditional=True)
        self.style = TinyStyle()
        self.critic = TinyClassifier(width=5, outputs=1, norm=False)
        self.k_logit = TinyClassifier(width=4, outputs=IDENTITIES, norm=False)
        self.trap_discriminator = TinyClassifier(width=4, outputs=1, norm=True)
        self.target = TinyClassifier(width=6, outputs=IDENTITIES, norm=True)
        self.evaluator = TinyClassifier(width=7, outputs=IDENTITIES, norm=True)
        self.surrogate_1 = TinyClassifier(width=4, outputs=IDENTITIES, norm=True)
        self.surrogate_2 = TinyClassifier(width=5, outputs=IDENTITIES, norm=True)

    def prior(self, discriminator: str = "critic") -> TinyPrior:
        """The generator with one of the two networks that judge its images: `critic` or `k_logit`."""
        return TinyPrior(self.generator, {"critic": self.critic, "k_logit": self.k_logit}[discriminator])

    def conditional_prior(self) -> TinyConditionalPrior:
        return TinyConditionalPrior(self.conditional_generator)

    def surrogates(self) -> tuple[Any, ...]:
        """The two networks trained on the target's answers; all that attacks use of a `Classifier` they have."""
        return self.surrogate_1, self.surrogate_2


def golden_networks(dtype: torch.dtype = torch.float64) -> TinyNetworks:
    """The networks of the attacks' cases: in eval mode, frozen."""
    networks = TinyNetworks()
    networks.load_state_dict(load_file(GOLDEN / "networks.safetensors"))
    return networks.to(dtype).eval().requires_grad_(False)


def white_box(networks: TinyNetworks, discriminator: str = "critic", **changes: Any) -> Access[WhiteBoxOracle]:
    """The target with its weights, and the generator with one of the discriminators as the prior."""
    prior = networks.prior(discriminator)
    return Access(WhiteBoxOracle(networks.target), torch.device("cpu"), prior=prior, **changes)


def follow(
    attack: GradientAttack[Any], access: Access[Any], variables: Variables, rows: Rows, *, steps: int
) -> tuple[list[State], Tensor]:
    """A search from given variables: its state before the first and after every step, and all losses, (steps, B)."""
    kept = attack.remember({}, variables, None)
    states: list[State] = [{"variables": variables, "memory": attack.descent.rule.begin(variables), "kept": kept}]
    losses = []
    for step in range(steps):
        state, loss = attack.advance(access, states[-1], rows, step)
        states.append(state)
        losses.append(loss)
    return states, torch.stack(losses)


def trajectory(states: Sequence[State], name: str) -> Tensor:
    """One variable in each of the states. Shape: (states, B, ...)."""
    return torch.stack([state["variables"][name] for state in states])


def assert_recorded(actual: Tensor, recorded: Tensor, *, atol: float = 1e-9) -> None:
    """Fail if numbers differ from recorded ones by more than an absolute tolerance."""
    torch.testing.assert_close(actual, recorded, rtol=0.0, atol=atol)


def kind_of(file: Path) -> str:
    """The component that a golden test is about, such as gmi for `test_gmi_golden.py`."""
    return file.stem.removeprefix("test_").removesuffix("_golden")


def golden(case: str, *, weights: bool = False, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """All numbers of a case, or the weights of its networks, where it has some of its own.

    Floating-point tensors have the precision they are stored in, or `dtype`.
    """
    stored = load_file(GOLDEN / f"{case}.safetensors")
    return {
        name: tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor
        for name, tensor in stored.items()
        if name.startswith("weights.") is weights
    }


def golden_weights(network: nn.Module, case: str, name: str) -> nn.Module:
    """The network with the weights stored for it in a case, in float64 and training mode."""
    prefix = f"weights.{name}."
    stored = load_file(GOLDEN / f"{case}.safetensors")
    network.load_state_dict({k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)})
    return network.double()
