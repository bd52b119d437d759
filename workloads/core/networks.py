"""Networks as folders: their config as JSON, their weights as safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from workloads.core.config import ComponentConfig
from workloads.core.registry import Registry

Config = TypeVar("Config", bound=ComponentConfig)
Network = TypeVar("Network", bound=nn.Module)


def save_network(
    folder: Path, name: str, network: nn.Module, *, config: ComponentConfig, runtime: Mapping[str, Any]
) -> None:
    """Write `<name>.json` and `<name>.safetensors`.

    Args:
        runtime: the arguments, plain JSON values, that the network was built with beside its config.
    """
    weights = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    save_file(weights, folder / f"{name}.safetensors")
    description = {"config": config.model_dump(mode="json"), "runtime": runtime}
    (folder / f"{name}.json").write_text(json.dumps(description, indent=1, sort_keys=True), encoding="utf-8")


def load_network(folder: Path, name: str, registry: Registry[Config, Network], *, device: torch.device) -> Network:
    """Read a network that `save_network` wrote: on `device`, in eval mode, its weights frozen."""
    description = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    config_class = registry.config_of(description["config"]["kind"])
    config = config_class.model_validate_json(json.dumps(description["config"]))
    network = registry.build(config, **description["runtime"])
    network.load_state_dict(load_file(folder / f"{name}.safetensors"))
    return network.to(device).eval().requires_grad_(False)
