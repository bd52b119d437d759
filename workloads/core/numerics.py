"""How numbers are computed: deterministic operations, the precision of networks, and a record of both for each job."""

from __future__ import annotations

import os
import platform
import re
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import torch
from torch import Tensor
from torch.backends import cuda as sdp

from workloads.core.config import Addition, FrozenConfig
from workloads.core.errors import OtherMachineError
from workloads.core.nvidia_driver import installed_gpus

Precision = Literal["fp32", "tf32", "bf16"]
"""Precision that networks compute in. `fp32` is single precision throughout. `tf32` rounds the factors of convolutions
and matrix products to 10 bits, on GPUs that can; elsewhere it is `fp32`. `bf16` runs forward passes in bfloat16 where
torch's autocast finds that safe; weights, latents and optimisers stay fp32."""

CPU = torch.device("cpu")
STRICT_VARIABLE = "MIDRE_STRICT_DETERMINISM"
"""Set to 1, an operation without a deterministic form fails; else it is recorded. Tests set it."""
CUBLAS_VARIABLE, CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
"""A fixed workspace, without which cuBLAS may add up in another order; it is read when CUDA starts."""
WARNING = re.compile(r"(.+?) does not have a deterministic implementation")


class MachineKind(FrozenConfig):
    """What the bits of results depend on of the machine that computes them; part of job keys under strict numerics."""

    processor: str
    """Name of the processor."""
    cores: int
    """Number of its cores, from which threads follow where a spec does not set them."""
    gpu: str | None
    """Name of its first GPU; None without one that torch can use."""
    torch_version: str
    """Version of torch."""
    installed_gpus: Annotated[int, Addition()] = 0
    """Number of its GPUs, from which threads beside one of them follow where a spec does not set them."""

    @staticmethod
    def here() -> MachineKind:
        """Describe this machine."""
        gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
        return MachineKind(
            processor=cpu_model(),
            cores=os.cpu_count() or 1,
            gpu=gpu,
            torch_version=torch.__version__,
            installed_gpus=installed_gpus(),
        )

    def check(self, device: torch.device, *, gpus: float) -> None:
        """Refuse to compute on a device of another kind.

        Args:
            device: where the job is about to run, on this machine.
            gpus: how many GPUs it was placed on. A process without any may not see those of its machine.

        Raises:
            OtherMachineError: if this is another kind of machine, or the job lost the GPU it was placed on.
        """
        expected = (self.gpu or self.processor) if gpus else self.processor
        here = {
            "device": device_name(device),
            "cores": os.cpu_count() or 1,
            "GPUs": installed_gpus(),
            "torch": torch.__version__,
        }
        planned = {"device": expected, "cores": self.cores, "GPUs": self.installed_gpus, "torch": self.torch_version}
        for name, value in planned.items():
            if here[name] != value:
                raise OtherMachineError(
                    f"numerics: strict: this job was planned for {name} {value}, here it is {here[name]}: start the "
                    "run on a node like those that compute, or leave strict out."
                )


class Numerics(TypedDict):
    """What the bits of a result depend on beside its settings, as a manifest stores it."""

    threads: int
    """Threads of torch."""
    device: str
    """Name of the GPU, or of the processor."""
    torch: str
    """Version of torch."""
    precision: str
    """Precisions that networks computed in, joined by commas."""
    deterministic: bool
    """Whether every operation had a deterministic form."""
    nondeterministic_operations: list[str]
    """The operations that had none, by torch's names."""


@dataclass
class NumericsRecord:
    """What a job was seen to compute with, while it ran under `deterministic`."""

    precisions: set[Precision] = field(default_factory=set)
    """Precisions that `arithmetic` was asked for."""
    nondeterministic: set[str] = field(default_factory=set)
    """Operations without a deterministic form, by torch's names."""

    def numerics(self, device: torch.device) -> Numerics:
        """Describe what the bits of a job on this device depended on."""
        return {
            "threads": torch.get_num_threads(),
            "device": device_name(device),
            "torch": torch.__version__,
            "precision": ", ".join(sorted(self.precisions)) or "fp32",
            "deterministic": not self.nondeterministic,
            "nondeterministic_operations": sorted(self.nondeterministic),
        }


_RECORD: ContextVar[NumericsRecord | None] = ContextVar("record", default=None)


def fix_cublas_workspace() -> None:
    """Give cuBLAS the workspace that makes it deterministic; this must come before CUDA starts in the process."""
    os.environ.setdefault(CUBLAS_VARIABLE, CUBLAS_WORKSPACE)


@contextmanager
def deterministic(device: torch.device = CPU) -> Iterator[NumericsRecord]:
    """Compute deterministically on a device while the block runs, and record what could not be.

    An operation without a deterministic form is recorded; with MIDRE_STRICT_DETERMINISM=1 it fails. TF32 is off unless
    `arithmetic` asks for it. On GPUs attention is computed by matrix products: where other operations may go on without
    a deterministic form, torch's fused kernels go on without it too, and say so once per process alone.
    """
    fix_cublas_workspace()
    record = NumericsRecord()
    before = _flags()
    strict = os.environ.get(STRICT_VARIABLE) == "1"
    token = _RECORD.set(record)
    try:
        # Filling new tensors with NaN finds code that reads them unwritten: for tests, as it costs time.
        flags = _Flags(
            deterministic=True,
            warn_only=not strict,
            fill_memory=strict,
            benchmark=False,
            cudnn=True,
            matmul_tf32=False,
            cudnn_tf32=False,
            fused_attention=before.fused_attention if device.type == "cpu" else (False, False, False),
        )
        _set_flags(flags)
        with _recorded_warnings(record):
            yield record
    finally:
        _set_flags(before)
        _RECORD.reset(token)


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[torch.autocast]:
    """Compute in this precision while the block runs, backward passes included.

    Yields the context to enter around forward passes alone, as often as needed: autocast for `bf16`, nothing otherwise.
    """
    if record := _RECORD.get():
        record.precisions.add(precision)
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    _allow_tf32(precision == "tf32", precision == "tf32")
    try:
        kind = "cpu" if device.type == "meta" else device.type  # tests run on meta tensors, which have no autocast
        yield torch.autocast(kind, dtype=torch.bfloat16, enabled=precision == "bf16")
    finally:
        _allow_tf32(*before)


def at_least_fp32(tensor: Tensor) -> Tensor:
    """The tensor, in single precision if it came in half."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Leave autocast, if it is on, for a block that cannot bear half precision."""
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def device_name(device: torch.device) -> str:
    """Name of a GPU, or of this machine's processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_model()


def cpu_model() -> str:
    """Name of the processor, from Linux or, elsewhere, from Python."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@dataclass(frozen=True)
class _Flags:
    """Global settings of torch that decide which kernels run."""

    deterministic: bool
    warn_only: bool
    fill_memory: bool
    benchmark: bool
    cudnn: bool
    matmul_tf32: bool
    cudnn_tf32: bool
    fused_attention: tuple[bool, bool, bool]
    """Whether attention may run as flash attention, memory-efficient attention and cuDNN's."""


def _flags() -> _Flags:
    return _Flags(
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]  # a property of a module
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        (sdp.flash_sdp_enabled(), sdp.mem_efficient_sdp_enabled(), sdp.cudnn_sdp_enabled()),
    )


def _set_flags(flags: _Flags) -> None:
    torch.use_deterministic_algorithms(flags.deterministic, warn_only=flags.warn_only)
    torch.utils.deterministic.fill_uninitialized_memory = flags.fill_memory  # type: ignore[attr-defined]  # the same
    torch.backends.cudnn.benchmark = flags.benchmark
    torch.backends.cudnn.deterministic = flags.cudnn
    _allow_tf32(flags.matmul_tf32, flags.cudnn_tf32)
    flash, memory_efficient, cudnn = flags.fused_attention
    sdp.enable_flash_sdp(flash)
    sdp.enable_mem_efficient_sdp(memory_efficient)
    sdp.enable_cudnn_sdp(cudnn)


def _allow_tf32(matmul: bool, cudnn: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = matmul
    torch.backends.cudnn.allow_tf32 = cudnn


@contextmanager
def _recorded_warnings(record: NumericsRecord) -> Iterator[None]:
    """Take torch's warnings of operations without a deterministic form off the terminal and into the record."""
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=WARNING.pattern)
        show = warnings.showwarning

        def note(message: Warning | str, *args: Any, **kwargs: Any) -> None:
            if operation := WARNING.match(str(message)):
                record.nondeterministic.add(operation[1])
            else:
                show(message, *args, **kwargs)

        warnings.showwarning = note
        yield
