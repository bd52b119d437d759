"""`python -m workloads.priors.stylegan2.convert IN.pkl OUT.safetensors`: convert a published network to plain weights.

IN is a network of StyleGAN2-ADA for PyTorch, without classes. Nothing in it is executed (see `pickled_networks`). The
prior to put into a spec is printed as one JSON object, which is also valid YAML.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor

from workloads.core.config import first_problem
from workloads.core.errors import ConfigError, DataError, MidreError
from workloads.core.randomness import generator
from workloads.core.weights import load_weights
from workloads.priors.stylegan2.layers import GROUP, SMOOTH, group_deviations
from workloads.priors.stylegan2.networks import SMALLEST, Critic, Generator, Shape
from workloads.priors.stylegan2.pickled_networks import PickledNetwork, read_networks
from workloads.priors.stylegan2.prior import StyleGan2Config, shape_of

SAMPLES = 16
"""Images from which the usual deviation is estimated, rounded down to complete groups."""
COMMON = {"c_dim": 0, "activation": "lrelu", "resample_filter": list(map(int, SMOOTH))}
"""Settings that networks must have, if they state them: with others, weights would load but give other images."""
GENERATORS = {**COMMON, "architecture": "skip", "use_noise": True, "lr_multiplier": 0.01}
CRITICS = {**COMMON, "architecture": "resnet", "mbstd_num_channels": 1}
SIZES = ("z_dim", "w_dim", "img_resolution", "img_channels")
"""Settings that every generator must state."""
GROUPED = ("mapping_kwargs", "synthesis_kwargs", "block_kwargs", "epilogue_kwargs")
"""Settings that hold other settings."""
WITHOUT = "--without-critic"
# Published names of layers, to ours.
LAYERS = {"conv0": "enlarge", "conv1": "refine", "torgb": "to_colours"}
CRITIC_LAYERS = {"conv0": "refine", "conv1": "shrink", "skip": "around"}
LAST_LAYERS = {"conv": "refine", "fc": "hidden", "out": "judge"}


def convert(source: Path, target: Path, *, critic: bool = True) -> dict[str, Any]:
    """Write the averaged weights of a published network. Returns the fields of the prior that uses them.

    The weights of its critic are added if `critic` is true and the file has one.

    Raises:
        DataError: if the file is not a pickle of StyleGAN2-ADA networks.
        ConfigError: if its networks have another architecture.
    """
    networks = read_networks(source)
    if "G_ema" not in networks:
        raise DataError(f"{source} holds no G_ema: take a published network or a complete snapshot.")
    average, shape, fields = _average(networks["G_ema"], source)
    weights = {f"average.{name}": weight for name, weight in average.state_dict().items()}
    has_critic = critic and "D" in networks
    if has_critic:
        discriminator = _critic(networks["D"], shape, average, source)
        weights |= {f"critic.{name}": weight for name, weight in discriminator.state_dict().items()}
    save_file({name: weight.contiguous() for name, weight in weights.items()}, target)
    return {"kind": "stylegan2", "weights": str(target), **fields, "judge": has_critic}


def generator_name(name: str) -> str | None:
    """Our name of a parameter of the published generator; None if there is no such parameter."""
    if match := re.fullmatch(r"mapping\.fc(\d+)\.(weight|bias)", name):
        return f"mapping.layers.{match[1]}.{match[2]}"
    if match := re.fullmatch(r"synthesis\.b(\d+)\.(conv0|conv1|torgb)\.(.+)", name):
        rest = match[3].replace("noise_const", "noise")
        return f"blocks.{_level(match[1])}.{LAYERS[match[2]]}.{rest}"
    return {"mapping.w_avg": "mapping.mean", "synthesis.b4.const": "constant"}.get(name)


def critic_name(name: str, size: int) -> str | None:
    """Our name of a parameter of the published critic for images of `size` pixels; None if there is none."""
    if match := re.fullmatch(r"b4\.(conv|fc|out)\.(weight|bias)", name):
        return f"{LAST_LAYERS[match[1]]}.{match[2]}"
    if match := re.fullmatch(rf"b{size}\.fromrgb\.(weight|bias)", name):
        return f"from_colours.{match[1]}"
    if match := re.fullmatch(r"b(\d+)\.(conv0|conv1|skip)\.(weight|bias)", name):
        return f"blocks.{_level(str(size)) - _level(match[1])}.{CRITIC_LAYERS[match[2]]}.{match[3]}"
    return None


def _average(network: PickledNetwork, source: Path) -> tuple[Generator, Shape, dict[str, Any]]:
    """The averaged generator, its shape, and the same shape as fields of the prior."""
    where = f"{source}: G_ema"
    settings = _settings(network, GENERATORS, where)
    if missing := [name for name in SIZES if name not in settings]:
        raise DataError(f"{where} does not say its {missing[0]}: take a network of StyleGAN2-ADA for PyTorch.")
    fields = {
        "resolution": settings["img_resolution"],
        "latent_size": settings["z_dim"],
        "style_size": settings["w_dim"],
        "mapping_layers": settings.get("num_layers", 8),
        "channel_base": settings.get("channel_base", 32768),
        "channel_max": settings.get("channel_max", 512),
        "conv_clamp": _float(settings.get("conv_clamp")),
    }
    try:
        config = StyleGan2Config(**fields)
    except ValidationError as error:
        raise DataError(f"{where} has settings that no StyleGAN2 can have: {first_problem(error)}") from error
    shape = shape_of(config, settings["img_channels"], settings["img_resolution"])
    average = Generator(shape)
    load_weights(average, _renamed(network.tensors, generator_name, where), source=where)
    return average, shape, fields


def _critic(network: PickledNetwork, shape: Shape, average: Generator, source: Path) -> Critic:
    """The critic, with the usual deviation of generated images, estimated here because the file lacks it."""
    where = f"{source}: D (which {WITHOUT} leaves out)"
    settings = _settings(network, CRITICS | {"conv_clamp": shape.clamp}, where)
    critic = Critic(shape)
    weights = _renamed(network.tensors, lambda name: critic_name(name, shape.size), where)
    load_weights(critic, weights | {"deviation.usual": torch.zeros([])}, source=where)
    critic.deviation.usual.copy_(usual_deviation(critic, average, group=settings.get("mbstd_group_size", GROUP)))
    return critic


@torch.no_grad()
def usual_deviation(critic: Critic, average: Generator, *, group: int) -> Tensor:
    """Mean deviation within groups of generated images, as the critic's layer computes it."""
    count = max(SAMPLES // group, 1) * group
    latents = torch.randn(count, average.mapping.latent_size, generator=generator("usual deviation"))
    styles = average.mapping(latents)[:, None].expand(-1, average.layers, -1)
    images = (average.run(style[None])[1] for style in styles)
    maps = torch.cat([critic.blocks(critic.from_colours(image)) for image in images])
    return group_deviations(maps, group=group).mean()


def _settings(network: PickledNetwork, required: Mapping[str, object], where: str) -> dict[str, Any]:
    """All settings of a network, without nesting.

    Raises:
        ConfigError: if one of them is not as `required`.
    """
    settings = dict(network.settings)
    for group in GROUPED:
        settings |= settings.pop(group, None) or {}
    for name, value in required.items():
        if name in settings and settings[name] != value:
            raise ConfigError(f"{where} was built with {name} {settings[name]!r}, only {value!r} can be read.")
    return settings


def _renamed(tensors: Mapping[str, Tensor], rename: Callable[[str], str | None], where: str) -> dict[str, Tensor]:
    """Weights by our names, without the resampling filters, which are checked instead."""
    weights: dict[str, Tensor] = {}
    smooth = torch.outer(torch.tensor(SMOOTH), torch.tensor(SMOOTH)) / sum(SMOOTH) ** 2
    for name, tensor in tensors.items():
        if name.rpartition(".")[2] == "resample_filter":
            if tensor.shape != smooth.shape or not torch.allclose(tensor.float(), smooth):
                raise ConfigError(f"{where} resizes with another filter than {SMOOTH}, in {name}.")
        elif (new_name := rename(name)) is None:
            raise ConfigError(f"{where} holds {name}, which no StyleGAN2 without classes has.")
        else:
            weights[new_name] = tensor.float()
    return weights


def _level(size: str) -> int:
    """How often 4 pixels must be doubled to get `size`."""
    return int(math.log2(int(size) / SMALLEST))


def _float(number: float | None) -> float | None:
    return None if number is None else float(number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit status: 0 for done, 2 if the file was refused."""
    parser = argparse.ArgumentParser(prog="python -m workloads.priors.stylegan2.convert", description=__doc__)
    parser.add_argument("source", type=Path, metavar="IN.pkl")
    parser.add_argument("target", type=Path, metavar="OUT.safetensors")
    parser.add_argument(WITHOUT, action="store_true", help="for attacks that do not ask how real an image looks")
    options = parser.parse_args(arguments)
    try:
        fields = convert(options.source, options.target, critic=not options.without_critic)
    except MidreError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{json.dumps(fields)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
