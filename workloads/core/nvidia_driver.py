"""What NVIDIA's driver says of a machine, whether torch can use it or not."""

from __future__ import annotations

from pathlib import Path

GPU_FOLDERS = Path("/proc/driver/nvidia/gpus")
"""Where the driver lists a folder for each GPU."""


def installed_gpus() -> int:
    """How many GPUs this machine has, also where a process is shown only some of them."""
    return len(list(GPU_FOLDERS.iterdir())) if GPU_FOLDERS.is_dir() else 0
