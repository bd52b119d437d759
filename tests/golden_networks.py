"""The tiny networks behind the golden numbers: 3 x 8 x 8 images, 6 identities, latents of 8."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

GOLDEN = Path(__file__).parent / "golden"
IDENTITIES = 6
LATENT_SIZE = 8
MAPS = 6  # channels of the generator's 4 x 4 maps
FEATURES = 12


class TinyGenerator(nn.Module):
    """Shape: (B, 8) to (B, 3, 8, 8) in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(LATENT_SIZE, MAPS * 16), nn.BatchNorm1d(MAPS * 16), nn.ReLU())
        self.up = nn.ConvTranspose2d(MAPS, 3, kernel_size=4, stride=2, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        maps = self.stem(latents).unflatten(1, (MAPS, 4, 4))
        return self.up(maps).sigmoid()


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

    def features(self, images: Tensor) -> Tensor:
        return self.feature(self.body(images)).tanh()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


class TinyPrior:
    """A generator and the network that judges its images, as an attack is given them."""

    latent_size = LATENT_SIZE

    def __init__(self, generator: nn.Module, critic: nn.Module) -> None:
        self.generator, self.critic = generator, critic

    def synthesize(self, latents: Tensor) -> Tensor:
        return self.generator(latents)

    def realism(self, images: Tensor) -> Tensor:
        """The critic's value; of a discriminator with one logit an identity, log p(real) = lse - softplus(lse)."""
        outputs = self.critic(images)
        if outputs.shape[1] == 1:
            return outputs.flatten()
        evidence = outputs.logsumexp(1)
        return evidence - nn.functional.softplus(evidence)


def golden(case: str, *, weights: bool = False) -> dict[str, Tensor]:
    """All numbers of a case, or the weights of its networks."""
    stored = load_file(GOLDEN / f"{case}.safetensors")
    return {name: tensor for name, tensor in stored.items() if name.startswith("weights.") is weights}


def golden_networks(case: str, dtype: torch.dtype = torch.float64) -> nn.ModuleDict:
    """The networks of a case: in eval mode, frozen."""
    networks = nn.ModuleDict(
        {
            "generator": TinyGenerator(),
            "critic": TinyClassifier(width=5, outputs=1, norm=False),
            "k_logit": TinyClassifier(width=4, outputs=IDENTITIES, norm=False),
            "target": TinyClassifier(width=6, outputs=IDENTITIES, norm=True),
        }
    )
    stored = load_file(GOLDEN / f"{case}.safetensors")
    prefix = "weights."
    networks.load_state_dict({k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)})
    return networks.to(dtype).eval().requires_grad_(False)


def golden_weights(network: nn.Module, case: str, name: str) -> nn.Module:
    """The network with the weights stored for it in a case, in float64 and training mode."""
    prefix = f"weights.{name}."
    stored = load_file(GOLDEN / f"{case}.safetensors")
    network.load_state_dict({k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)})
    return network.double()
