"""Operations whose gradients are not the same at every run on a GPU, made to fail on a CPU.

On CUDA torch says so itself, but a CPU runs other kernels. The names are those of torch's list in the documentation of
`use_deterministic_algorithms`, for what throws there; and float `cumsum`, which takes memory by the square of a row's
length instead (torch 2.11).
"""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

WITHOUT_DETERMINISTIC_FORM = frozenset(
    {
        *("grid_sampler_2d_backward", "grid_sampler_3d_backward"),
        *(f"upsample_{kind}_backward" for kind in ("linear1d", "bilinear2d", "bicubic2d", "trilinear3d")),
        *("_upsample_bilinear2d_aa_backward", "_upsample_bicubic2d_aa_backward"),
        *(f"reflection_pad{axes}d_backward" for axes in (1, 2, 3)),
        *("_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "adaptive_max_pool2d_backward"),
        *("avg_pool3d_backward", "fractional_max_pool2d_backward", "fractional_max_pool3d_backward"),
        *("max_unpool2d", "max_unpool3d", "nll_loss2d_forward", "nll_loss2d_backward", "_ctc_loss_backward"),
        *("put_", "histc", "median.dim", "nanmedian.dim", "_embedding_bag_backward"),
    }
)
"""Names of operations in ATen."""
OF_FLOATS = frozenset({"cumsum", "cumsum_"})
"""Operations that have no usable form for floating point numbers alone."""


class NotDeterministicOnGpus(AssertionError):
    """An operation was run that has no deterministic form on GPUs."""


class DeterministicOnGpus(TorchDispatchMode):
    """While it is entered, an operation without a deterministic form on GPUs fails."""

    def __init__(self) -> None:
        TorchDispatchMode.__init__(self)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet, overload = func.overloadpacket.__name__, func._overloadname
        of_floats = packet in OF_FLOATS and args[0].is_floating_point()
        weighted = packet == "bincount" and len(args) > 1 and args[1] is not None
        of_products = packet.startswith("scatter_reduce") and "prod" in args
        if {packet, f"{packet}.{overload}"} & WITHOUT_DETERMINISTIC_FORM or of_floats or weighted or of_products:
            raise NotDeterministicOnGpus(f"{packet} has no deterministic form on GPUs")
        return func(*args, **(kwargs or {}))
