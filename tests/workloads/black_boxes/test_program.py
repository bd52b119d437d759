"""Programs in files: they answer as the network they were made of, and what is no plain program is never loaded."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workloads.black_boxes.program import Program, ProgramConfig
from workloads.core.errors import AnswerError, ConfigError, DataError
from workloads.training.checkpoint_files import CheckpointFile

NAMES = ("ann", "bob", "cy")
CPU = torch.device("cpu")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8, 3)).eval()


def scripted(file: Path, module: nn.Module) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(file)
    return file


def exported(file: Path, batch: int | None = None) -> Path:
    """The network for any number of images, or for as many as `batch`."""
    images = torch.zeros(batch or 2, 1, 8, 8)
    shapes = None if batch else ({0: torch.export.Dim("batch", min=1, max=64)},)
    torch.export.save(torch.export.export(network(), (images,), dynamic_shapes=shapes), file)
    return file


def load(file: Path, **settings: Any) -> Program:
    config = ProgramConfig(program=CheckpointFile.at(str(file)), answers="logits", **settings)
    return Program(config, NAMES, channels=1, file=file, device=CPU)


def edited(source: Path, target: Path, edit: Callable[[str, bytes], bytes]) -> Path:
    """A copy of an archive with its files changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, edit(name, old.read(name)))
    return target


def images(count: int = 5) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_torchscript_answers_as_the_network_does(tmp_path: Path) -> None:
    program = load(scripted(tmp_path / "p.pt", network()), mean=(0.5,), std=(0.25,))
    assert torch.allclose(program(images()), network()((images() - 0.5) / 0.25), atol=1e-6)


def test_an_exported_program_answers_as_the_network_does(tmp_path: Path) -> None:
    assert torch.allclose(load(exported(tmp_path / "p.pt2"))(images()), network()(images()), atol=1e-6)


def test_an_exported_program_for_a_fixed_number_of_images_answers_any_number(tmp_path: Path) -> None:
    assert torch.allclose(load(exported(tmp_path / "p.pt2", batch=4))(images()), network()(images()), atol=1e-6)


def test_images_of_another_size_are_refused_in_one_line(tmp_path: Path) -> None:
    program = load(exported(tmp_path / "p.pt2"), input_size=16)
    with pytest.raises(AnswerError, match=r"p\.pt2 does not take images of 5 x 1 x 16 x 16: .*Check input_size"):
        program(images())


def test_a_mean_of_other_channels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mean has 3 numbers, but images have 1 channels"):
        load(scripted(tmp_path / "p.pt", network()), mean=(0.5, 0.5, 0.5))


class Writes(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images + torch.from_file("/etc/hostname", False, 1)


def test_torchscript_that_reads_files_is_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"calls aten\.from_file, which may do more than compute with tensors"):
        load(scripted(tmp_path / "p.pt", Writes()))


@pytest.mark.parametrize(
    ("code", "operator"),
    [
        (b"torch . save(", "aten.save"),
        (b"ops.image.read_file(", "image.read_file"),
        (b"__torch__.torch.classes.other.Thing(", "classes"),
    ],
)
def test_torchscript_that_was_edited_to_do_more_is_not_loaded(tmp_path: Path, code: bytes, operator: str) -> None:
    plain = scripted(tmp_path / "plain.pt", network())
    file = edited(plain, tmp_path / "p.pt", lambda name, part: part.replace(b"torch.relu(", code))
    with pytest.raises(DataError, match=f"calls {operator}, which may"):
        load(file)


def test_two_files_of_one_name_are_not_loaded(tmp_path: Path) -> None:
    file = scripted(tmp_path / "p.pt", network())
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("p/CODE/__torch__.py", "")
        archive.writestr("p/code/__TORCH__.py", "")
    with pytest.raises(DataError, match="holds two files of one name"):
        load(file)


def _with_operator(program: dict[str, Any]) -> None:
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.system"


def _with_expression(program: dict[str, Any]) -> None:
    sizes = program["graph_module"]["graph"]["tensor_values"]["input"]["sizes"]
    sizes[0]["as_expr"]["expr_str"] = "__import__('os').getpid()"


def _with_guards(program: dict[str, Any]) -> None:
    program["guards_code"] = ["print(1)"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_with_operator, "calls torch.os.system, which may do more"),
        (_with_expression, "a size that is no plain expression"),
        (_with_guards, "Python code that checks its inputs"),
    ],
)
def test_an_exported_program_that_was_edited_to_do_more_is_not_loaded(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    def edit(name: str, part: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return part
        program = json.loads(part)
        change(program)
        return json.dumps(program).encode()

    file = edited(exported(tmp_path / "plain.pt2"), tmp_path / "p.pt2", edit)
    with pytest.raises(DataError, match=message):
        load(file)


def test_an_exported_program_with_pickled_weights_is_not_loaded(tmp_path: Path) -> None:
    def edit(name: str, part: bytes) -> bytes:
        return part.replace(b'"use_pickle": false', b'"use_pickle": true') if name.endswith("_config.json") else part

    file = edited(exported(tmp_path / "plain.pt2"), tmp_path / "p.pt2", edit)
    with pytest.raises(DataError, match=r"holds 0\.weight as a pickled object, which is never opened"):
        load(file)


def test_weights_and_other_files_are_no_program(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "w.pt")
    (tmp_path / "text.pt").write_text("version https://git-lfs.github.com/spec/v1")
    (tmp_path / "text.pt2").write_text("hello")
    for name, message in (
        ("w.pt", "is no TorchScript: give what torch.jit.save writes"),
        ("text.pt", "is a Git LFS pointer"),
        ("text.pt2", "is no program: .* write zip archives"),
    ):
        with pytest.raises(DataError, match=message):
            load(tmp_path / name)
