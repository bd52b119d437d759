"""Published networks: a miniature pickle of their structure is converted; one that would run anything is refused."""

from __future__ import annotations

import builtins
import json
import math
import os
import pickle
import sys
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from tests.support.interruptions import context_at
from workloads.core.errors import ConfigError, DataError
from workloads.core.randomness import generator
from workloads.priors.stylegan2.convert import convert, critic_name, generator_name, main
from workloads.priors.stylegan2.pickled_networks import STAND_INS, read_networks
from workloads.priors.stylegan2.prior import StyleGan2, StyleGan2Config

Z, W, LAYERS, BASE, MOST = 5, 6, 2, 64, 8
Pickle = Callable[..., Path]


def width(size: int) -> int:
    return min(BASE // size, MOST)


def levels(size: int) -> list[int]:
    return [4 * 2**level for level in range(int(math.log2(size)) - 1)]


def generator_shapes(size: int) -> dict[str, tuple[int, ...]]:
    """Every parameter and buffer of the published generator, but for its filters."""
    shapes: dict[str, tuple[int, ...]] = {"mapping.w_avg": (W,), "synthesis.b4.const": (width(4), 4, 4)}
    for layer in range(LAYERS):
        shapes |= {f"mapping.fc{layer}.weight": (W, W if layer else Z), f"mapping.fc{layer}.bias": (W,)}
    for side in levels(size):
        block, channels = f"synthesis.b{side}", width(side)
        for name, before in (("conv0", width(side // 2)), ("conv1", channels)) if side > 4 else (("conv1", channels),):
            shapes |= {f"{block}.{name}.weight": (channels, before, 3, 3), f"{block}.{name}.bias": (channels,)}
            shapes |= {f"{block}.{name}.affine.weight": (before, W), f"{block}.{name}.affine.bias": (before,)}
            shapes |= {f"{block}.{name}.noise_const": (side, side), f"{block}.{name}.noise_strength": ()}
        shapes |= {f"{block}.torgb.weight": (3, channels, 1, 1), f"{block}.torgb.bias": (3,)}
        shapes |= {f"{block}.torgb.affine.weight": (channels, W), f"{block}.torgb.affine.bias": (channels,)}
    return shapes


def critic_shapes(size: int) -> dict[str, tuple[int, ...]]:
    top, last = width(size), width(4)
    shapes: dict[str, tuple[int, ...]] = {f"b{size}.fromrgb.weight": (top, 3, 1, 1), f"b{size}.fromrgb.bias": (top,)}
    for side in levels(size)[1:]:
        channels, after = width(side), width(side // 2)
        shapes |= {f"b{side}.conv0.weight": (channels, channels, 3, 3), f"b{side}.conv0.bias": (channels,)}
        shapes |= {f"b{side}.conv1.weight": (after, channels, 3, 3), f"b{side}.conv1.bias": (after,)}
        shapes |= {f"b{side}.skip.weight": (after, channels, 1, 1)}
    shapes |= {"b4.conv.weight": (last, last + 1, 3, 3), "b4.conv.bias": (last,)}
    shapes |= {"b4.fc.weight": (last, last * 16), "b4.fc.bias": (last,)}
    return shapes | {"b4.out.weight": (1, last), "b4.out.bias": (1,)}


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: torch.randn(shape, generator=generator("test", name)) for name, shape in shapes.items()}


SMOOTH = torch.outer(torch.tensor([1.0, 3.0, 3.0, 1.0]), torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64


# The structure of the published files, as their library writes them


class EasyDict(dict[str, Any]):
    """Stands for the dictionary of the library that wrote the files."""


EasyDict.__module__, EasyDict.__qualname__ = "dnnlib.util", "EasyDict"


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> None:
    raise AssertionError("the name is looked up in a table, never imported")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class Persistent:
    """A network whose pickle carries its source, to be run by the library that reads it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.inside: dict[str, Persistent] = {}
        self.parameters: dict[str, Tensor | None] = {}
        self.buffers: dict[str, Tensor] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        state = {
            "training": False,
            "_parameters": OrderedDict((name, as_parameter(tensor)) for name, tensor in self.parameters.items()),
            "_buffers": OrderedDict(self.buffers),
            "_non_persistent_buffers_set": set(),
            "_backward_hooks": OrderedDict(),
            "_modules": OrderedDict(self.inside),
            "weight_gain": np.float64(0.5),
            "_init_args": (),
            "_init_kwargs": EasyDict(self.settings),
        }
        source = "raise AssertionError('the source in a pickle was run')"
        meta = {"type": "class", "version": 6, "module_src": source, "class_name": "Generator", "state": state}
        return _reconstruct_persistent_obj, (meta,), None


def as_parameter(tensor: Tensor | None) -> torch.nn.Parameter | None:
    return None if tensor is None else torch.nn.Parameter(tensor, requires_grad=False)


def network(tensors: dict[str, Tensor], settings: dict[str, Any], smooth: Tensor = SMOOTH) -> Persistent:
    """Modules in modules, as the dotted names say; every block and convolution has a filter."""
    top = Persistent(settings)
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        module = top
        for part in path:
            module = module.inside.setdefault(part, Persistent({}))
        (module.buffers if last in ("w_avg", "noise_const") else module.parameters)[last] = tensor
        if last == "weight" and tensor.ndim == 4:
            module.buffers["resample_filter"] = smooth
            module.parameters.setdefault("bias", None)
    return top


def settings(size: int, **changes: Any) -> dict[str, Any]:
    synthesis = EasyDict(channel_base=BASE, channel_max=MOST, num_fp16_res=4, conv_clamp=256)
    plain = {"c_dim": 0, "img_resolution": size, "img_channels": 3}
    return {
        **plain,
        "z_dim": Z,
        "w_dim": W,
        "mapping_kwargs": EasyDict(num_layers=LAYERS),
        "synthesis_kwargs": synthesis,
    } | changes


def critic_settings(size: int, **changes: Any) -> dict[str, Any]:
    plain = {"c_dim": 0, "img_resolution": size, "img_channels": 3, "channel_base": BASE, "channel_max": MOST}
    return plain | {"conv_clamp": 256, "block_kwargs": {}, "epilogue_kwargs": EasyDict(mbstd_group_size=4)} | changes


@pytest.fixture
def pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pickle:
    """Writes a file as the library does whose modules these names are; they are gone when it is read."""

    def write(content: object, *, protocol: int = 4) -> Path:
        with monkeypatch.context() as patch:
            modules: dict[str, dict[str, object]] = {
                "torch_utils": {},
                "torch_utils.persistence": {"_reconstruct_persistent_obj": _reconstruct_persistent_obj},
                "dnnlib": {},
                "dnnlib.util": {"EasyDict": EasyDict},
            }
            for name, members in modules.items():
                module = types.ModuleType(name)
                module.__dict__.update(members)
                patch.setitem(sys.modules, name, module)
            with warnings.catch_warnings(action="ignore"):  # of torch, about how it writes its own tensors
                (tmp_path / "network.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
        return tmp_path / "network.pkl"

    return write


def snapshot(size: int = 16, **changes: Any) -> dict[str, Any]:
    average = network(weights(generator_shapes(size)), settings(size, **changes))
    judge = network(weights(critic_shapes(size)), critic_settings(size))
    return {
        "G": None,
        "D": judge,
        "G_ema": average,
        "training_set_kwargs": EasyDict(path="faces.zip"),
        "augment_pipe": None,
    }


# Reading


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_every_tensor_of_a_network_is_read_as_it_was_written(pickled: Pickle, protocol: int) -> None:
    expected = weights(generator_shapes(16))
    loaded_network = read_networks(pickled(snapshot(), protocol=protocol))["G_ema"]
    loaded_tensors = {
        name: tensor for name, tensor in loaded_network.tensors.items() if not name.endswith("resample_filter")
    }
    assert loaded_tensors.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded_tensors.items())


def test_the_settings_of_a_network_are_read(pickled: Pickle) -> None:
    loaded_network = read_networks(pickled(snapshot()))["G_ema"]
    assert loaded_network.settings == settings(16)


def test_a_part_of_a_larger_tensor_is_read_as_that_part(pickled: Pickle) -> None:
    module = Persistent({})
    module.buffers["noise_const"] = torch.arange(24.0).view(4, 6).T[1:3]
    tensor = read_networks(pickled({"G_ema": module}))["G_ema"].tensors["noise_const"]
    assert torch.equal(tensor, torch.arange(24.0).view(4, 6).T[1:3])


# Refusals. What would be run leaves a mark.


class Call:
    """Unpickled as the call of a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize(
    ("function", "argument", "name"),
    [
        (os.system, "touch MARK", f"{os.name}.system"),
        (builtins.eval, "open('MARK', 'w')", "builtins.eval"),
        (builtins.exec, "open('MARK', 'w')", "builtins.exec"),
        (os.mkdir, "MARK", f"{os.name}.mkdir"),
        (torch.load, "MARK", "torch.serialization.load"),
        (getattr, "MARK", "builtins.getattr"),
        (pickle.loads, b"", "_pickle.loads"),
    ],
)
def test_a_file_that_calls_anything_else_is_refused_by_name(
    pickled: Pickle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: Any, argument: Any, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file = pickled({"G_ema": Call(function, argument)})
    with pytest.raises(DataError, match=rf"network.pkl asks for {name}, which no network of StyleGAN2-ADA needs"):
        read_networks(file)
    assert not (tmp_path / "MARK").exists()


def test_a_call_inside_a_network_is_refused_as_well(pickled: Pickle, tmp_path: Path) -> None:
    content = snapshot()
    content["G_ema"].settings["z_dim"] = Call(os.mkdir, str(tmp_path / "mark"))
    with pytest.raises(DataError, match=r"asks for posix\.mkdir"):
        read_networks(pickled(content))
    assert not (tmp_path / "mark").exists()


def test_the_older_library_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "tensorflow.pkl"
    file.write_bytes(b"cdnnlib.tflib.network\nNetwork\n)R.")
    with pytest.raises(DataError, match=r"asks for dnnlib\.tflib\.network\.Network"):
        read_networks(file)


@pytest.mark.parametrize("module_and_name", [b"ctorch._utils\n_rebuild_parameter\n", b"ccollections\nOrderedDict\n"])
def test_a_file_cannot_change_the_reader(tmp_path: Path, module_and_name: bytes) -> None:
    file = tmp_path / "sly.pkl"
    file.write_bytes(b"\x80\x02" + module_and_name + b"(N}X\x05\x00\x00\x00_makeNstb.")  # sets _make to None
    before = dict(STAND_INS)
    with pytest.raises(DataError, match=r"sly\.pkl is no pickle of StyleGAN2-ADA networks"):
        read_networks(file)
    assert before == STAND_INS
    assert STAND_INS["torch._utils", "_rebuild_parameter"]("kept") == "kept"


def test_a_tensor_that_reaches_beyond_its_numbers_is_refused(pickled: Pickle) -> None:
    module = Persistent({})
    module.buffers["noise_const"] = torch.zeros(4)
    file = pickled({"G_ema": module})
    file.write_bytes(file.read_bytes().replace(b"K\x00K\x04\x85", b"K\x01K\x04\x85"))  # 4 numbers from the second on
    with pytest.raises(DataError, match="is no pickle of StyleGAN2-ADA networks: a tensor cannot be read"):
        read_networks(file)


def test_a_tensor_of_few_numbers_cannot_claim_to_be_large(pickled: Pickle) -> None:
    module = Persistent({})
    module.buffers["noise_const"] = torch.zeros(1).expand(100, 100)
    with pytest.raises(DataError, match=r"a tensor of \(100, 100\) lies in 1 numbers"):
        read_networks(pickled({"G_ema": module}))


def test_a_network_inside_itself_is_refused(tmp_path: Path) -> None:
    # The network, memo entry 3, is put among its own modules, entry 2.
    file = tmp_path / "endless.pkl"
    meta = b"\x80\x02}X\x05\x00\x00\x00G_emactorch_utils.persistence\n_reconstruct_persistent_obj\n"
    inside = b"}X\x05\x00\x00\x00state}(X\x0b\x00\x00\x00_parameters}X\x08\x00\x00\x00_buffers}"
    again = b"X\x0c\x00\x00\x00_init_kwargs}X\x08\x00\x00\x00_modules}q\x02us\x85Rq\x03h\x02X\x01\x00\x00\x00ah\x03s0s."
    file.write_bytes(meta + inside + again)
    with pytest.raises(DataError, match="is no pickle of StyleGAN2-ADA networks: maximum recursion depth"):
        read_networks(file)


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps(["G_ema"]), pickle.dumps({"G_ema": 1})[:-3]])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "damaged.pkl"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged\.pkl is no pickle of StyleGAN2-ADA networks"):
        read_networks(file)


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(DataError, match=r"no file nowhere\.pkl: give a StyleGAN2-ADA network"):
        read_networks(Path("nowhere.pkl"))


# Names


@pytest.mark.parametrize("part", ["generator", "critic"])
def test_every_published_name_at_64_pixels_is_one_of_ours_with_its_shape(part: str) -> None:
    shapes = generator_shapes(64) if part == "generator" else critic_shapes(64)
    renamed = {
        generator_name(name) if part == "generator" else critic_name(name, 64): tensor
        for name, tensor in shapes.items()
    }
    prior = StyleGan2(StyleGan2Config(**fields(64)), channels=3, image_size=64, classes=1)
    state = (prior.average if part == "generator" else prior.critic).state_dict()
    ours = {name: tuple(tensor.shape) for name, tensor in state.items() if name != "deviation.usual"}
    assert renamed == ours
    # Two mapping layers, mean and constant; nine convolutions of 6, five colours of 4. First convolution, four blocks
    # of 5, three last layers.
    assert len(renamed) == len(shapes) == (2 * 2 + 2 + 9 * 6 + 5 * 4 if part == "generator" else 2 + 4 * 5 + 3 * 2)


def fields(size: int) -> dict[str, Any]:
    """The prior of these networks, but for where they lie."""
    return {
        **{"resolution": size, "latent_size": Z, "style_size": W, "mapping_layers": LAYERS},
        **{"channel_base": BASE, "channel_max": MOST, "conv_clamp": 256.0, "judge": True},
    }


# Images, by the published formulas written out with one convolution an image and zeros between samples


def rectified(maps: Tensor) -> Tensor:
    return (math.sqrt(2) * F.leaky_relu(maps, 0.2)).clamp(-256, 256)


def linear(tensors: dict[str, Tensor], name: str, inputs: Tensor, rate: float = 1.0) -> Tensor:
    return inputs @ tensors[f"{name}.weight"].T * (rate / math.sqrt(inputs.shape[1])) + tensors[f"{name}.bias"] * rate


def filtered(maps: Tensor, before: int, after: int, gain: float = 1.0) -> Tensor:
    smooth = (SMOOTH * gain).to(maps).expand(maps.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(maps, (before, after, before, after)), smooth, groups=maps.shape[1])


def spread(maps: Tensor) -> Tensor:
    return (
        torch.stack((maps, torch.zeros_like(maps)), -1).flatten(-2).repeat_interleave(2, 2)
        * torch.tensor([1.0, 0.0]).repeat(maps.shape[2]).to(maps)[:, None]
    )


def styled(tensors: dict[str, Tensor], name: str, maps: Tensor, style: Tensor, *, up: bool) -> Tensor:
    scale = linear(tensors, f"{name}.affine", style)
    rows = []
    for image, image_scale in zip(maps, scale, strict=True):
        weight = tensors[f"{name}.weight"] * image_scale[None, :, None, None]
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            rows.append(F.conv2d(filtered(spread(image[None]), 3, 2, gain=4), weight.flip((2, 3))))
        else:
            rows.append(F.conv2d(image[None], weight, padding=1))
    noise = tensors[f"{name}.noise_const"] * tensors[f"{name}.noise_strength"]
    return rectified(torch.cat(rows) + noise + tensors[f"{name}.bias"][:, None, None])


def published_image(tensors: dict[str, Tensor], latents: Tensor, size: int) -> Tensor:
    style = latents / (latents.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for layer in range(LAYERS):
        style = math.sqrt(2) * F.leaky_relu(linear(tensors, f"mapping.fc{layer}", style, 0.01), 0.2)
    maps = tensors["synthesis.b4.const"].expand(len(latents), -1, -1, -1)
    image = torch.zeros(len(latents), 3, 2, 2).to(latents)
    for side in levels(size):
        block = f"synthesis.b{side}"
        if side > 4:
            maps = styled(tensors, f"{block}.conv0", maps, style, up=True)
        maps = styled(tensors, f"{block}.conv1", maps, style, up=False)
        scale = linear(tensors, f"{block}.torgb.affine", style) / math.sqrt(maps.shape[1])
        colours = F.conv2d(
            maps * scale[:, :, None, None], tensors[f"{block}.torgb.weight"], tensors[f"{block}.torgb.bias"]
        )
        image = filtered(spread(image), 2, 1, gain=4) + colours.clamp(-256, 256)
    return image


def published_logit(tensors: dict[str, Tensor], images: Tensor, size: int) -> Tensor:
    def conv(name: str, maps: Tensor, **how: int) -> Tensor:
        weight = tensors[f"{name}.weight"] / math.sqrt(tensors[f"{name}.weight"][0].numel())
        return F.conv2d(maps, weight, tensors.get(f"{name}.bias"), **how)

    maps = rectified(conv(f"b{size}.fromrgb", images))
    for side in reversed(levels(size)[1:]):
        around = conv(f"b{side}.skip", filtered(maps, 1, 1)[:, :, ::2, ::2])
        maps = rectified(conv(f"b{side}.conv0", maps, padding=1))
        maps = rectified(conv(f"b{side}.conv1", filtered(maps, 2, 2), stride=2))
        maps = (maps + around) * math.sqrt(0.5)
    deviation = (maps.var(0, correction=0) + 1e-8).sqrt().mean().expand(len(maps), 1, 4, 4)  # one group of four
    maps = rectified(conv("b4.conv", torch.cat((maps, deviation), 1), padding=1))
    hidden = math.sqrt(2) * F.leaky_relu(linear(tensors, "b4.fc", maps.flatten(1)), 0.2)
    return linear(tensors, "b4.out", hidden).flatten()


def loaded(fields: dict[str, Any], folder: Path) -> StyleGan2:
    """The prior of a converted file, in float64."""
    prior = StyleGan2(StyleGan2Config(**fields), channels=3, image_size=fields["resolution"], classes=1)
    prior.fit(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), context=context_at(folder))
    return prior.double().eval().requires_grad_(False)


def doubles(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: tensor.double() for name, tensor in weights(shapes).items()}


def test_converted_weights_give_the_images_of_the_published_formulas(pickled: Pickle, tmp_path: Path) -> None:
    prior = loaded(convert(pickled(snapshot(32)), tmp_path / "out.safetensors"), tmp_path)
    latents = torch.randn(3, Z, generator=generator("test", "latents")).double()
    expected = published_image(doubles(generator_shapes(32)), latents, 32)
    torch.testing.assert_close(prior.run_blocks(prior.styles(latents))[1], expected, rtol=1e-9, atol=1e-9)


def test_converted_weights_judge_by_the_published_formulas(pickled: Pickle, tmp_path: Path) -> None:
    prior = loaded(convert(pickled(snapshot(32)), tmp_path / "out.safetensors"), tmp_path)
    images = torch.randn(4, 3, 32, 32, generator=generator("test", "images")).double()
    expected = published_logit(doubles(critic_shapes(32)), images, 32)
    torch.testing.assert_close(prior.critic.train()(images), expected, rtol=1e-9, atol=1e-9)


def test_truncation_pulls_to_the_published_mean(pickled: Pickle, tmp_path: Path) -> None:
    prior = loaded(convert(pickled(snapshot()), tmp_path / "out.safetensors"), tmp_path)
    mean = prior.styles(torch.ones(1, Z).double(), truncation=0.0)[0, 0]
    assert torch.equal(mean.float(), weights(generator_shapes(16))["mapping.w_avg"])


# Converting


def test_the_prior_to_put_into_a_spec_is_printed(
    pickled: Pickle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.safetensors"
    assert main([str(pickled(snapshot())), str(target)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"kind": "stylegan2", "weights": str(target), **fields(16)}
    assert StyleGan2Config.model_validate_json(json.dumps(printed)).conv_clamp == 256


def test_what_images_usually_deviate_by_is_measured_on_the_networks_own(pickled: Pickle, tmp_path: Path) -> None:
    convert(pickled(snapshot()), tmp_path / "out.safetensors")
    assert load_file(tmp_path / "out.safetensors")["critic.deviation.usual"].item() > 1e-4


def test_a_published_average_alone_is_converted_without_a_judge(pickled: Pickle, tmp_path: Path) -> None:
    prior_fields = convert(pickled({"G_ema": snapshot()["G_ema"]}), tmp_path / "out.safetensors")
    prior = loaded(prior_fields, tmp_path)
    assert not prior.scores_realism


def test_the_critic_is_left_out_on_request(pickled: Pickle, tmp_path: Path) -> None:
    target = tmp_path / "out.safetensors"
    assert main([str(pickled(snapshot())), str(target), "--without-critic"]) == 0
    assert {name.partition(".")[0] for name in load_file(target)} == {"average"}


def test_a_refused_file_is_one_line_and_status_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere.pkl"), str(tmp_path / "out.safetensors")]) == 2
    assert capsys.readouterr().err == f"no file {tmp_path}/nowhere.pkl: give a StyleGAN2-ADA network, as .pkl.\n"


def test_a_file_without_an_average_is_refused(pickled: Pickle, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no G_ema"):
        convert(pickled({"D": snapshot()["D"]}), tmp_path / "out.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"c_dim": 10}, "G_ema was built with c_dim 10, only 0 can be read"),
        ({"mapping_kwargs": {"num_layers": LAYERS, "lr_multiplier": 0.1}}, "lr_multiplier 0.1, only 0.01 can be read"),
        ({"synthesis_kwargs": {"architecture": "resnet"}}, "architecture 'resnet', only 'skip' can be read"),
        ({"img_resolution": 48}, "images of 8, 16, .* pixels, not 48"),
    ],
)
def test_another_architecture_is_refused(
    pickled: Pickle, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        convert(pickled(snapshot(**changes)), tmp_path / "out.safetensors")


def test_a_network_of_other_widths_than_it_says_is_refused(pickled: Pickle, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"G_ema do not fit Generator: .* of another shape"):
        convert(pickled(snapshot(w_dim=W + 1)), tmp_path / "out.safetensors")


def test_another_filter_is_refused(pickled: Pickle, tmp_path: Path) -> None:
    average = network(weights(generator_shapes(16)), settings(16), smooth=torch.full((4, 4), 1 / 16))
    with pytest.raises(ConfigError, match=r"G_ema resizes with another filter than \(1.0, 3.0, 3.0, 1.0\)"):
        convert(pickled({"G_ema": average}), tmp_path / "out.safetensors")


def test_a_name_that_is_not_known_is_refused(pickled: Pickle, tmp_path: Path) -> None:
    average = network(weights(generator_shapes(16)) | {"mapping.embed.bias": torch.zeros(3)}, settings(16))
    with pytest.raises(ConfigError, match=r"holds mapping\.embed\.bias, which no StyleGAN2 without classes has"):
        convert(pickled({"G_ema": average}), tmp_path / "out.safetensors")


def test_a_critic_that_differs_says_how_to_go_on_without_it(pickled: Pickle, tmp_path: Path) -> None:
    content = snapshot()
    content["D"] = network(weights(critic_shapes(16)), critic_settings(16, conv_clamp=None))
    with pytest.raises(ConfigError, match=r"D \(which --without-critic leaves out\) was built with conv_clamp None"):
        convert(pickled(content), tmp_path / "out.safetensors")
