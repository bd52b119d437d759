"""Updates that are recorded once and repeated give the bits of updates computed one operation after another."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.interruptions import context_at
from tests.support.tape import Tape
from workloads.core.cuda_graphs import STEPS_BEFORE_RECORDING, Work
from workloads.core.numerics import deterministic
from workloads.core.randomness import generator
from workloads.models.small_cnn import SmallCnnConfig
from workloads.observation.oracles import LabelOracle, WhiteBoxOracle
from workloads.priors import adversarial, recorded_updates
from workloads.priors.adversarial import AdversarialPrior
from workloads.priors.base import PRIORS
from workloads.priors.recorded_updates import RecordedUpdates
from workloads.priors.stylegan2 import adaptive_augmentation
from workloads.training.classifiers import Architecture

CLASSES, SIZE = 3, 32
PUBLIC = torch.randint(256, (6, 3, SIZE, SIZE), generator=generator("test", "public"), dtype=torch.uint8)
FEW = 1  # updates of a kind before it is recorded here
COMMON = {"batch_size": 2, "critic_steps": 1, "latent_size": 4, "width": 2, "steps": 4}
STYLES = {"channel_base": 64, "channel_max": 4, "style_size": 4, "mapping_layers": 1, "augmentation_images": 8}
KINDS: dict[str, tuple[dict[str, Any], int]] = {
    "wgan_gp": ({"critic_steps": 2, "steps": 6, "ema": 0.9}, 2),
    "ked_gan": ({}, 2),
    "plg_gan": ({"images_per_class": 2}, 2),
    "tacgan": ({"warm_up": 0.5, "steps": 8}, 4),
    "stylegan2": ({**STYLES, "r1_every": 2, "path_length_every": 3, "steps": 9}, 4),
}
"""Settings of each kind that leave nothing out of its updates, and how many kinds of updates there are."""


class CountingTape(Tape):
    """Counts recordings and repetitions."""

    def __init__(self) -> None:
        self.recorded = self.repeated = 0

    def record(self, work: Work, *, draws: Sequence[torch.Generator] = ()) -> Work:
        self.recorded += 1
        return self._counting(super().record(work, draws=draws))

    def _counting(self, repeat: Work) -> Work:
        def counted() -> None:
            self.repeated += 1
            repeat()

        return counted


def fitted(kind: str, folder: Path, device: str = "cpu") -> tuple[dict[str, Tensor], int]:
    """Weights of a short fit, and how many queries it asked."""
    config_of = PRIORS.config_of(kind)
    settings = {name: value for name, value in COMMON.items() if name in config_of.model_fields}
    config = config_of.model_validate(settings | KINDS[kind][0])
    prior = PRIORS.build(config, channels=3, image_size=SIZE, classes=CLASSES)
    assert isinstance(prior, AdversarialPrior)
    network = Architecture(model=SmallCnnConfig(width=2, stages=2), classes=CLASSES, channels=3, image_size=SIZE)
    target = WhiteBoxOracle(network.build(seed=1).to(device).eval().requires_grad_(False))
    context = context_at(folder)
    context.device = torch.device(device)
    prior.fit(PUBLIC, target=target if prior.target_access else None, context=context)
    return prior.state_dict(), target.queries


class OneKernelAStep(torch.optim.Adam):
    """Adam that looks at no number of its own, as on a GPU."""

    def __init__(self, weights: Any, **settings: Any) -> None:
        super().__init__(weights, **settings | {"fused": True})


@contextmanager
def on_tape(tape: Tape) -> Iterator[None]:
    """Have updates on the CPU recorded on a tape, as those on a GPU are in graphs."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(adversarial, "GRAPHS", "cpu")
        patched.setattr(adversarial, "CudaGraphs", lambda device: tape)
        patched.setattr(recorded_updates, "STEPS_BEFORE_RECORDING", FEW)
        yield


@pytest.mark.parametrize("kind", PRIORS.kinds())
def test_a_recorded_fit_has_the_bits_of_one_that_is_not(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.optim, "Adam", OneKernelAStep)
    monkeypatch.setattr(adaptive_augmentation, "_is_off", lambda probability: False)
    computed, queries = fitted(kind, tmp_path / "computed")
    tape = CountingTape()
    with on_tape(tape):
        recorded, queries_of_recorded = fitted(kind, tmp_path / "recorded")
    assert tape.recorded == KINDS[kind][1]
    assert tape.repeated > tape.recorded
    assert [name for name, tensor in computed.items() if not torch.equal(tensor, recorded[name])] == []
    assert queries_of_recorded == queries


# Updates whose every number can be worked out by hand.


class Sum:
    """Adds a number that is drawn from 0 to 9, and the number of the update, to a total."""

    def __init__(self, *, reads: bool = False) -> None:
        self.total, self.step = torch.zeros(()), torch.zeros(())
        self.draws = torch.Generator()
        self.target = LabelOracle(lambda images: images)
        self._reads = reads

    def __call__(self) -> dict[str, Tensor]:
        drawn = torch.randint(10, (), generator=self.draws)
        self.total += drawn + self.step
        self.target.labels(torch.zeros(3, 2))
        if self._reads:
            drawn.item()
        return {"drawn": drawn}

    def run(self, recorder: Tape, *, updates: int) -> list[int]:
        """What was drawn in each update."""
        recorded = RecordedUpdates(recorder, draws=self.draws, target=self.target)
        drawn = []
        for number in range(updates):
            self.draws.manual_seed(number)
            self.step.fill_(number)
            drawn.append(int(recorded.take("sum", self)["drawn"]))
        return drawn


UPDATES = STEPS_BEFORE_RECORDING + 4
DRAWN = [int(torch.randint(10, (), generator=torch.Generator().manual_seed(seed))) for seed in range(UPDATES)]


@pytest.mark.parametrize(("reads", "repeated"), [(False, 4), (True, 0)])
def test_an_update_draws_counts_and_asks_the_same_whether_it_is_repeated_or_not(reads: bool, repeated: int) -> None:
    tape, update = CountingTape(), Sum(reads=reads)
    assert update.run(tape, updates=UPDATES) == DRAWN
    assert update.total.item() == sum(DRAWN) + sum(range(UPDATES))
    assert update.target.queries == 3 * UPDATES
    assert (tape.recorded, tape.repeated) == (1, repeated)


def test_an_update_that_cannot_be_recorded_is_in_the_log_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Sum(reads=True).run(Tape(), updates=UPDATES)
    assert [record.message for record in caplog.records] == [
        "updates run one operation after another, as they cannot be recorded: aten._local_scalar_dense.default cannot "
        "be recorded"
    ]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("kind", PRIORS.kinds())
def test_a_graph_gives_the_bits_of_operations_one_after_another(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded_updates, "STEPS_BEFORE_RECORDING", FEW)
    with deterministic(torch.device("cuda")):
        recorded, _ = fitted(kind, tmp_path / "recorded", "cuda")
        monkeypatch.setattr(adversarial, "GRAPHS", "nowhere")
        computed, _ = fitted(kind, tmp_path / "computed", "cuda")
    assert [name for name, tensor in computed.items() if not torch.equal(tensor, recorded[name])] == []
