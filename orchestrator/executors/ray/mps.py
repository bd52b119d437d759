"""NVIDIA's multi-process service, with which jobs that share a GPU compute side by side rather than in turns."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.errors import RequestError
from orchestrator.placement.machine import MPS_VARIABLE, mps_runs
from orchestrator.placement.nodes import Node
from orchestrator.store.temporary import PREFIX, mark_owned

CONTROL = "nvidia-cuda-mps-control"
"""The program that starts the daemon and speaks to it."""
PATIENCE_S = 30.0
"""How long the daemon may take to start or to stop."""


@contextmanager
def mps_daemon() -> Iterator[None]:
    """Run a daemon for this machine while the block runs; one that runs already is used and left alone.

    Raises:
        RequestError: if the program is not installed, or cannot start the daemon.
    """
    if mps_runs():
        yield
        return
    if shutil.which(CONTROL) is None:
        raise RequestError(
            f"resources.start_mps: {CONTROL} is not on PATH: install it with NVIDIA's driver, or leave start_mps out."
        )
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}mps-") as folder:
        mark_owned(Path(folder))
        variables = {MPS_VARIABLE: folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        os.environ.update(variables)  # Ray, which is started next, and its workers inherit them
        try:
            _control("-d")
            try:
                yield
            finally:
                _control(command="quit\n")
        finally:
            for name in variables:
                os.environ.pop(name, None)


def client_environment(node: Node, gpus: Sequence[int], share: float) -> dict[str, Any] | None:
    """Ray's runtime environment of a worker that shares a GPU under the service: the daemon keeps it to its memory.

    The part of the GPU's multiprocessors that a worker may use (CUDA_MPS_ACTIVE_THREAD_PERCENTAGE) is not limited:
    libraries choose their kernels by the number that a process sees, and another kernel gives other last bits.
    """
    if not node.mps or not 0 < share < 1 or (memory_gb := node.gpus[gpus[0]].memory_gb) is None:
        return None
    limit_mb = int(share * memory_gb * 1024)
    return {"env_vars": {"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": f"0={limit_mb}M"}}  # 0: the one GPU that Ray lets it see


def _control(*options: str, command: str = "") -> None:
    try:
        subprocess.run(
            [CONTROL, *options], input=command, text=True, capture_output=True, timeout=PATIENCE_S, check=True
        )
    except subprocess.SubprocessError as error:
        raise RequestError(
            f"resources.start_mps: {CONTROL} {' '.join(options) or command.strip()}: {error}."
        ) from error
