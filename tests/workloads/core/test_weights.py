"""Files of weights as people have them: what is read, and what is refused by its name without being opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from workloads.core.errors import ConfigError, DataError
from workloads.core.weights import load_weights, read_weights

WEIGHTS = {"conv.weight": torch.arange(4.0), "conv.bias": torch.zeros(1)}


def saved(file: Path, value: Any) -> Path:
    torch.save(value, file)
    return file


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": weight for name, weight in WEIGHTS.items()}


@pytest.mark.parametrize(
    "value",
    [
        {"state_dict": prefixed("model."), "pytorch-lightning_version": "2.5.0", "epoch": 3},
        {"state_dict": prefixed("net.module.") | {"accuracy.total": torch.ones(1)}, "pytorch-lightning_version": "2"},
        prefixed("module._orig_mod."),
        prefixed("model."),
        {"model": prefixed("_orig_mod."), "optimizer": {"lr": 0.1}},
    ],
    ids=[
        "lightning",
        "lightning with a metric",
        "parallel and compiled",
        "in a module",
        "compiled, beside an optimizer",
    ],
)
def test_checkpoints_of_training_codes_are_read(tmp_path: Path, value: Any) -> None:
    weights = read_weights(saved(tmp_path / "w.ckpt", value))
    assert weights.keys() == WEIGHTS.keys()
    assert all(torch.equal(weights[name], weight) for name, weight in WEIGHTS.items())


def lfs_pointer(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123\n")


def whole_model(file: Path) -> None:
    torch.save(nn.Sequential(nn.Linear(2, 2)), file)


def torchscript(file: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(str(file))


def exported(file: Path) -> None:
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), file)


def text(file: Path) -> None:
    file.write_text("not weights")


def other_pickle(file: Path) -> None:
    torch.save({"state_dict": WEIGHTS, "path": Path("x")}, file)


def not_finite(file: Path) -> None:
    torch.save(WEIGHTS | {"conv.bias": torch.tensor([float("nan")])}, file)


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:.*TorchScript archive")
@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lfs_pointer, "is a Git LFS pointer, not weights: run `git lfs pull`."),
        (whole_model, "is a whole pickled model, which is never opened: save model.state_dict() and give that."),
        (torchscript, "is a TorchScript program, not weights: save the state_dict() of its model."),
        (exported, "is an exported program, not weights: save the state_dict() of its model."),
        (text, "holds no plain weights and is not opened further: torch.save did not write it."),
        (other_pickle, "holds no plain weights and is not opened further: it pickles pathlib.PosixPath: save a "
                       "state_dict() alone."),
    ],
)  # fmt: skip
def test_what_is_no_weights_is_told_without_advice_to_unpickle(
    tmp_path: Path, write: Callable[[Path], None], message: str
) -> None:
    file = tmp_path / ("w.pt2" if write is exported else "w.pth")
    write(file)
    with pytest.raises(DataError) as caught:
        read_weights(file)
    assert str(caught.value) == f"{file} {message}"


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    not_finite(tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"w\.pth: conv\.bias holds numbers that are not finite"):
        read_weights(tmp_path / "w.pth")


def test_a_damaged_safetensors_file_is_refused(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:20])
    with pytest.raises(DataError, match="holds no plain weights and is not opened further: Error"):
        read_weights(tmp_path / "w.safetensors")


def test_weights_of_another_shape_are_refused_with_both_shapes() -> None:
    weights = nn.Conv2d(1, 2, 3).state_dict()
    with pytest.raises(ConfigError, match=r"1 of another shape \(weight\): weight is 2 x 1 x 3 x 3 there and 2 x 3 x"):
        load_weights(nn.Conv2d(3, 2, 3), weights, source="w.pth")


def test_a_network_without_memory_is_compared_and_not_changed() -> None:
    network = nn.Linear(2, 3, device="meta")
    load_weights(network, nn.Linear(2, 3).state_dict(), source="w.pth")
    assert network.weight.is_meta
    with pytest.raises(ConfigError, match="do not fit Linear"):
        load_weights(network, nn.Linear(3, 3).state_dict(), source="w.pth")
