"""Attack steps beside the bare forward and backward passes of the same folded, frozen networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from benchmarks import attacks
from benchmarks.attacks import Case, Setting, access_to, passes, step_of
from benchmarks.gpu.card import busy_share, by_torch_defaults, flop, utilisation
from benchmarks.gpu.rows import Row, Size
from benchmarks.timing import alternate, medians, wall_clock
from workloads.attacks.ppa import PpaConfig
from workloads.core.cuda_graphs import STEPS_BEFORE_RECORDING
from workloads.core.numerics import Precision, deterministic
from workloads.inversion.attack import Access
from workloads.models.small_cnn import SmallCnnConfig
from workloads.observation.oracles import WhiteBoxOracle
from workloads.priors.base import PriorConfig
from workloads.priors.ked_gan import KedGanConfig
from workloads.priors.plg_gan import PlgGanConfig
from workloads.priors.stylegan2.prior import StyleGan2Config
from workloads.priors.wgan_gp import WganGpConfig

ROUNDS = 3
STEPS_BEFORE_TIMING = STEPS_BEFORE_RECORDING + 1
"""Steps until a step is repeated rather than computed or recorded."""
CASES = {**attacks.CASES, "ppa": Case(PpaConfig(), StyleGan2Config(), scores_realism=False)}
ROWS: dict[Precision, tuple[int, ...]] = {"fp32": (300,), "tf32": (60, 300, 1000), "bf16": (60, 300, 1000)}
"""Rows searched at once. In fp32, GPUs compute without tensor cores: one size shows what that costs."""
LATENT_STEPS = {("gmi", 60): 12_000, ("gmi", 300): 18_000, ("gmi", 1000): 20_000, ("ppa", 300): 4_000}
"""Rows times steps a second that an attack is to reach with `precision: bf16`."""

TINY_CNN = SmallCnnConfig(width=2, stages=2)
TINY_PRIORS: dict[str, PriorConfig] = {
    "gmi": WganGpConfig(width=2),
    "kedmi": KedGanConfig(width=2),
    "lomma": KedGanConfig(width=2),
    "plgmi": PlgGanConfig(width=2),
    "ppa": StyleGan2Config(style_size=8, latent_size=8, mapping_layers=2, channel_base=64, channel_max=4),
}
TINY_SETTING = Setting(rows=2, classes=3, side=32)


def rows(size: Size, device: torch.device) -> Iterator[Row]:
    """The cost of a step over its bare passes, and latent-steps a second, of each attack."""
    for name in CASES:
        case = CASES[name] if size == "full" else _tiny(name)
        settings = _settings(size, device)
        with deterministic(device):  # as in a job: norms are folded only where outputs stay the same beyond rounding
            access = access_to(case, max(settings, key=lambda setting: setting.rows), fast=True)
        work = flop(passes(case, access, settings[0])) / settings[0].rows
        for setting in settings:
            yield from _rows_of(name, case, access, setting, work, rounds=ROUNDS if size == "full" else 1)


def _tiny(name: str) -> Case:
    surrogates = (TINY_CNN,) if CASES[name].surrogates else ()
    return replace(CASES[name], prior=TINY_PRIORS[name], target=TINY_CNN, surrogates=surrogates)


def _settings(size: Size, device: torch.device) -> list[Setting]:
    if size == "tiny":
        return [replace(TINY_SETTING, device=device, precision=precision) for precision in ROWS]
    return [Setting(rows=count, device=device, precision=precision) for precision in ROWS for count in ROWS[precision]]


def _rows_of(
    name: str, case: Case, access: Access[WhiteBoxOracle], setting: Setting, flop_per_row: float, *, rounds: int
) -> Iterator[Row]:
    device = setting.device
    bare = passes(case, access, setting)
    with deterministic(device):
        ours = step_of(case, access, setting)
        for _ in range(STEPS_BEFORE_TIMING):
            ours()
        turns = {"ours": ours, "bare": by_torch_defaults(bare)}
        seconds = medians(alternate(turns, rounds, wall_clock(device)))
        busy = busy_share(ours, device)
    work = flop_per_row * setting.rows
    details: dict[str, float | None] = {f"{turn}_ms": round(1000 * taken, 3) for turn, taken in seconds.items()}
    details |= {"flop": work, "mfu": utilisation(work, seconds["ours"], setting.precision, device), "busy": busy}
    title = f"{name}, {setting.rows} rows, {setting.precision}"
    cost = seconds["ours"] / seconds["bare"]
    yield Row("attacks", f"{title}: step over bare passes", cost, "", at_most=1.03, details=details)
    expected = LATENT_STEPS.get((name, setting.rows)) if setting.precision == "bf16" else None
    speed = setting.rows / seconds["ours"]
    yield Row("attacks", f"{title}: latent-steps", speed, "1/s", at_least=expected)
