"""`python -m workloads.priors.stylegan2.convert IN.pkl OUT.safetensors`: a published network as a file of weights.

IN is a network of StyleGAN2-ADA for PyTorch, without classes. Nothing in it is run (see `pickled_networks`). On stdout
comes the prior to put into a spec, as one JSON object, which YAML takes as it is.
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
"""Images whose deviation stands for the usual one, rounded to whole groups."""
COMMON = {"c_dim": 0, "activation": "lrelu", "resample_filter": list(map(int, SMOOTH))}
"""How networks must have been built, where their settings say so; other ones would pass and give other images."""
GENERATORS = {**COMMON, "architecture": "skip", "use_noise": True, "lr_multiplier": 0.01}
CRITICS = {**COMMON, "architecture": "resnet", "mbstd_num_channels": 1}
SIZES = ("z_dim", "w_dim", "img_resolution", "img_channels")
GROUPED = ("mapping_kwargs", "synthesis_kwargs", "block_kwargs", "epilogue_kwargs")
WITHOUT = "--without-critic"
LAYERS = {"conv0": "enlarge", "conv1": "refine", "torgb": "to_colours"}
CRITIC_LAYERS = {"conv0": "refine", "conv1": "shrink", "skip": "around"}
LAST_LAYERS = {"conv": "refine", "fc": "hidden", "out": "judge"}


def convert(source: Path, target: Path, *, critic: bool = True) -> dict[str, Any]:
    """Write the weights of a published network's average, and of its critic if it has one; returns the prior's fields.

    `critic` says whether the critic is wanted.

    Raises:
        DataError: if the file is not what it should be.
        ConfigError: for networks of another architecture.
    """
    networks = read_networks(source)
    if "G_ema" not in networks:
        raise DataError(f"{source} holds no G_ema: take a published network or a whole snapshot.")
    average, shape, fields = _average(networks["G_ema"], source)
    weights = {f"average.{name}": own for name, own in average.state_dict().items()}
    judge = critic and "D" in networks
    if judge:
        judging = _critic(networks["D"], shape, average, source)
        weights |= {f"critic.{name}": own for name, own in judging.state_dict().items()}
    save_file({name: own.contiguous() for name, own in weights.items()}, target)
    return {"kind": "stylegan2", "weights": str(target), **fields, "judge": judge}


def generator_name(name: str) -> str | None:
    """What a parameter of the published generator is called here; None where there is none of that name."""
    if found := re.fullmatch(r"mapping\.fc(\d+)\.(weight|bias)", name):
        return f"mapping.layers.{found[1]}.{found[2]}"
    if found := re.fullmatch(r"synthesis\.b(\d+)\.(conv0|conv1|torgb)\.(.+)", name):
        rest = found[3].replace("noise_const", "noise")
        return f"blocks.{_level(found[1])}.{LAYERS[found[2]]}.{rest}"
    return {"mapping.w_avg": "mapping.mean", "synthesis.b4.const": "constant"}.get(name)


def critic_name(name: str, size: int) -> str | None:
    """The same for the critic of images of `size` pixels."""
    if found := re.fullmatch(r"b4\.(conv|fc|out)\.(weight|bias)", name):
        return f"{LAST_LAYERS[found[1]]}.{found[2]}"
    if found := re.fullmatch(rf"b{size}\.fromrgb\.(weight|bias)", name):
        return f"from_colours.{found[1]}"
    if found := re.fullmatch(r"b(\d+)\.(conv0|conv1|skip)\.(weight|bias)", name):
        return f"blocks.{_level(str(size)) - _level(found[1])}.{CRITIC_LAYERS[found[2]]}.{found[3]}"
    return None


def _average(network: PickledNetwork, source: Path) -> tuple[Generator, Shape, dict[str, Any]]:
    """The generator, what it is built from, and the same as fields of the prior."""
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
        raise DataError(f"{where} was built with what no StyleGAN2 can be: {first_problem(error)}") from error
    shape = shape_of(config, settings["img_channels"], settings["img_resolution"])
    average = Generator(shape)
    load_weights(average, _renamed(network.tensors, generator_name, where), source=where)
    return average, shape, fields


def _critic(network: PickledNetwork, shape: Shape, average: Generator, source: Path) -> Critic:
    """The critic, with the deviation that images of the generator usually have, which the file does not tell."""
    where = f"{source}: D (which {WITHOUT} leaves out)"
    settings = _settings(network, CRITICS | {"conv_clamp": shape.clamp}, where)
    critic = Critic(shape)
    given = _renamed(network.tensors, lambda name: critic_name(name, shape.size), where)
    load_weights(critic, given | {"deviation.usual": torch.zeros([])}, source=where)
    critic.deviation.usual.copy_(usual_deviation(critic, average, group=settings.get("mbstd_group_size", GROUP)))
    return critic


@torch.no_grad()
def usual_deviation(critic: Critic, average: Generator, *, group: int) -> Tensor:
    """Mean deviation of groups of the generator's images as the critic takes it, one image at a time."""
    count = max(SAMPLES // group, 1) * group
    latents = torch.randn(count, average.mapping.latent_size, generator=generator("usual deviation"))
    styles = average.mapping(latents)[:, None].expand(-1, average.layers, -1)
    images = (average.run(own[None])[1] for own in styles)
    maps = torch.cat([critic.blocks(critic.from_colours(image)) for image in images])
    return group_deviations(maps, group=group).mean()


def _settings(network: PickledNetwork, wanted: Mapping[str, object], where: str) -> dict[str, Any]:
    """All settings side by side, once they are known to be `wanted`."""
    settings = dict(network.settings)
    for group in GROUPED:
        settings |= settings.pop(group, None) or {}
    for name, value in wanted.items():
        if name in settings and settings[name] != value:
            raise ConfigError(f"{where} was built with {name} {settings[name]!r}, only {value!r} can be read.")
    return settings


def _renamed(tensors: Mapping[str, Tensor], rename: Callable[[str], str | None], where: str) -> dict[str, Tensor]:
    """Weights by our names, without the filters, which are the same everywhere."""
    weights: dict[str, Tensor] = {}
    smooth = torch.outer(torch.tensor(SMOOTH), torch.tensor(SMOOTH)) / sum(SMOOTH) ** 2
    for name, own in tensors.items():
        if name.rpartition(".")[2] == "resample_filter":
            if own.shape != smooth.shape or not torch.allclose(own.float(), smooth):
                raise ConfigError(f"{where} resizes with another filter than {SMOOTH}, in {name}.")
        elif (ours := rename(name)) is None:
            raise ConfigError(f"{where} holds {name}, which no StyleGAN2 without classes has.")
        else:
            weights[ours] = own.float()
    return weights


def _level(size: str) -> int:
    """How often 4 pixels are doubled to `size`."""
    return int(math.log2(int(size) / SMALLEST))


def _float(number: float | None) -> float | None:
    return None if number is None else float(number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 the file was refused."""
    parser = argparse.ArgumentParser(prog="python -m workloads.priors.stylegan2.convert", description=__doc__)
    parser.add_argument("source", type=Path, metavar="IN.pkl")
    parser.add_argument("target", type=Path, metavar="OUT.safetensors")
    parser.add_argument(WITHOUT, action="store_true", help="for attacks that do not ask how real an image looks")
    given = parser.parse_args(arguments)
    try:
        fields = convert(given.source, given.target, critic=not given.without_critic)
    except MidreError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{json.dumps(fields)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
