"""The loop around every attack, on a search whose every number can be worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from tests.support.golden_networks import golden_networks
from tests.support.interruptions import Interrupted, context_at
from workloads.core.checkpoints import State
from workloads.core.errors import ConfigError, DivergedError
from workloads.core.memory import GIB
from workloads.inversion.attack import Access, Reconstructions, SearchConfig
from workloads.inversion.early_stop import EarlyStopConfig
from workloads.inversion.memory_batches import MemoryBatches
from workloads.inversion.row_search import RowSearch
from workloads.inversion.rows import Rows
from workloads.inversion.step import Step
from workloads.observation.oracles import LabelOracle, ScoreOracle, WhiteBoxOracle
from workloads.observation.views import RandomView, ViewConfig

CPU = torch.device("cpu")


class CountdownConfig(SearchConfig):
    kind: Literal["countdown"] = "countdown"


class Countdown(RowSearch[LabelOracle]):
    """Each row holds 10 * identity + restart and falls by one a step; it is settled at zero."""

    oracle = LabelOracle
    stages = ("count",)

    def begin(self, access: Access[LabelOracle], rows: Rows) -> State:
        return {"count": (10 * rows.identities + rows.restarts).float()}

    def move(self, access: Access[LabelOracle], state: State, rows: Rows, step: Step) -> tuple[State, Tensor]:
        return {"count": state["count"] - 1}, state["count"]

    def settled(self, state: State) -> Tensor:
        return state["count"] <= 0

    def latents(self, access: Access[LabelOracle], state: State, rows: Rows) -> tuple[Rows, Tensor]:
        return rows, state["count"][:, None]

    def render(self, access: Access[LabelOracle], latents: Tensor, rows: Rows) -> Tensor:
        return latents[:, :, None, None].expand(-1, 1, 2, 2).abs() / 100


def counted(
    folder: Path,
    *,
    identities: tuple[int, ...] = (0, 1, 2),
    stop_at: int | None = None,
    stop_after: int | None = None,
    **settings: Any,
) -> Reconstructions:
    attack = Countdown(CountdownConfig(**{"restarts": 2, "keep": 2, **settings}))
    target = LabelOracle(lambda images: images.flatten(1)[:, :3])
    context = context_at(folder, stop_at=stop_at, stop_after=stop_after)
    return attack.run(Access(target, CPU), torch.tensor(identities), context=context)


# Rows 0, 1, 10, 11, 20, 21 take 1 step (the first is at zero already), 1, 10, 11, 20 and 21 steps.


@pytest.mark.parametrize("chunk_rows", [1, 3, 256])
def test_rows_leave_when_they_are_settled_and_keep_their_places(tmp_path: Path, chunk_rows: int) -> None:
    reconstructions = counted(tmp_path, steps=100, chunk_rows=chunk_rows)
    assert reconstructions.latents.flatten().tolist() == [-1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("chunk_rows", [1, 3, 256])
def test_only_rows_under_way_cost_steps(tmp_path: Path, chunk_rows: int) -> None:
    assert counted(tmp_path, steps=100, chunk_rows=chunk_rows).latent_steps == 1 + 1 + 10 + 11 + 20 + 21


def test_the_number_of_steps_ends_the_others(tmp_path: Path) -> None:
    assert counted(tmp_path, steps=15).latents.flatten().tolist() == [-1, 0, 0, 0, 5, 6]


@pytest.mark.parametrize("stop_at", [25, 61])
def test_an_interrupted_search_ends_as_an_undisturbed_one(tmp_path: Path, stop_at: int) -> None:
    """A chunk of rows 0 to 3, done after 3 steps, and one of 30 to 33; both are looked at after 25 of 36 steps."""
    settings: dict[str, Any] = {"steps": 36, "chunk_rows": 4, "restarts": 4, "keep": 4, "identities": (0, 3)}
    undisturbed = counted(tmp_path / "whole", **settings)
    with pytest.raises(Interrupted):
        counted(tmp_path / "parts", stop_at=stop_at, **settings)
    again = counted(tmp_path / "parts", **settings)
    assert torch.equal(again.latents, undisturbed.latents)
    assert (again.latent_steps, again.queries) == (undisturbed.latent_steps, undisturbed.queries)


def test_a_search_lost_between_two_chunks_does_not_repeat_the_first(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        counted(tmp_path, steps=100, chunk_rows=3, stop_after=10)  # the steps of the first chunk
    assert counted(tmp_path, steps=100, chunk_rows=3).latent_steps == 1 + 1 + 10 + 11 + 20 + 21


@pytest.mark.parametrize(("images", "shared", "streams"), [(1, False, 4), (3, False, 12), (3, True, 1)])
def test_rows_and_their_images_have_draws_of_their_own_or_all_the_same(images: int, shared: bool, streams: int) -> None:
    draws = Rows.of(torch.arange(2), 2, key="test").draws("view", images=images)
    numbers = (draws.shared() if shared else draws).uniform(1)
    assert (len(numbers), len(numbers.unique())) == (4 * images, streams)


def test_rows_and_views_draw_without_a_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator for each row costs a loop in Python, which leaves a GPU waiting."""
    monkeypatch.setattr(torch, "Generator", None)
    rows = Rows.of(torch.arange(3), 2, key="test")
    assert rows.normal(5, "start").shape == (6, 5)
    view = RandomView(ViewConfig(scale=(0.8, 1.0), brightness=0.2, contrast=0.2, flip=0.5, rotation=5.0))
    assert view(torch.rand(6, 3, 8, 8), rows.draws("view")).shape == (6, 3, 8, 8)


def test_a_figure_that_is_no_number_ends_the_attack(tmp_path: Path) -> None:
    class Broken(Countdown):
        def move(self, access: Access[LabelOracle], state: State, rows: Rows, step: Step) -> tuple[State, Tensor]:
            return state, torch.full((len(rows),), torch.nan)

    with pytest.raises(DivergedError, match=r"^countdown: a loss became NaN or infinite by step 25: lower its lr\.$"):
        Broken(CountdownConfig()).run(
            Access(LabelOracle(lambda images: images), CPU), torch.tensor([3]), context=context_at(tmp_path)
        )


def test_more_identities_than_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"attacks 9 classes, but the target model has 3: lower it"):
        Countdown(CountdownConfig(identities=9)).check(prior=golden_networks().prior(), classes=3)


def test_an_attack_without_a_prior_is_refused_where_it_needs_one() -> None:
    with pytest.raises(ConfigError, match=r"^countdown needs a prior: give one to the attack or the spec"):
        Countdown(CountdownConfig()).check(prior=None, classes=3)


# Rows that end early because their loss has settled.


def settled(losses: list[float], window: int = 2, tolerance: float = 0.1) -> int | None:
    """The number of steps after which a row with these losses retires; None where it never does."""
    rule = EarlyStopConfig(window=window, tolerance=tolerance)
    figures = rule.begin(1, device=CPU)
    for at, loss in enumerate(losses):
        figures, done = rule.watch(figures, torch.tensor([loss]), torch.tensor(at))
        if done[0]:
            return at + 1
    return None


def test_a_row_retires_when_a_window_brings_less_than_a_part_of_its_fall() -> None:
    # Means of windows of two: 10, 5, 4.9. The last window brings 0.1 of 5.1, under a tenth.
    assert settled([11, 9, 5, 5, 4.9, 4.9, 0, 0]) == 6


def test_a_row_that_goes_on_falling_stays() -> None:
    assert settled([float(100 - step) for step in range(20)]) is None


def test_the_scale_and_the_zero_of_losses_do_not_matter() -> None:
    losses = [11, 9, 5, 5, 4.9, 4.9, 0, 0]
    assert settled([1000 * loss - 7 for loss in losses]) == settled(losses)


# Memory.


def test_parts_are_never_larger_than_asked() -> None:
    assert MemoryBatches(3).run(lambda part: part.stop - part.start, 7) == [3, 3, 1]


def test_a_part_that_is_too_large_for_the_device_is_halved_until_it_fits() -> None:
    def compute(part: slice) -> list[int]:
        if part.stop - part.start > 2:
            raise torch.OutOfMemoryError
        return list(range(part.start, part.stop))

    parts = MemoryBatches(8).run(compute, 7)
    assert [row for part in parts for row in part] == list(range(7))
    assert max(map(len, parts)) <= 2


def test_an_image_is_counted_once_however_often_its_batch_was_too_large() -> None:
    def logits(images: Tensor) -> Tensor:
        if len(images) > 2:
            raise torch.OutOfMemoryError
        return images.flatten(1)

    oracle, images = ScoreOracle(logits), torch.zeros(7, 1, 1, 3)
    MemoryBatches(8).run(lambda part: oracle.probabilities(images[part]), 7)
    assert oracle.queries == 7


def test_a_single_row_that_does_not_fit_is_said() -> None:
    def compute(part: slice) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        MemoryBatches(4).run(compute, 4)


def test_a_row_is_measured_by_what_its_backward_pass_keeps() -> None:
    """tanh keeps its output: 1024 float32 numbers a row, 4 KiB. Half of 80 KiB holds ten."""
    parts = MemoryBatches(256, memory_gb=80 * 1024 / GIB)
    rows = torch.randn(2, 1024, requires_grad=True, generator=torch.Generator().manual_seed(0))
    parts.measure(lambda: rows.tanh().sum(1), 2)
    assert parts.largest == 10


# What a target model gives away.


class Target(nn.Module):
    """Three classes by the first three pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Identity()
        self.mean, self.std = torch.zeros(1), torch.ones(1)

    def normalize(self, images: Tensor) -> Tensor:
        return images

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :3]

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


SHOWN = torch.tensor([[3.0, 1.0, 2.0, 0.0], [0.0, 5.0, 1.0, 9.0]]).view(2, 1, 2, 2)


@pytest.mark.parametrize("oracle", [LabelOracle, ScoreOracle, WhiteBoxOracle])
def test_every_image_shown_is_counted(oracle: type[LabelOracle]) -> None:
    counting = oracle(Target())
    counting.labels(SHOWN)
    counting.confidence(SHOWN[:1], torch.tensor([0]))
    assert counting.queries == 3


def test_a_label_oracle_names_classes_and_has_neither_scores_nor_the_model() -> None:
    oracle = LabelOracle(Target())
    assert oracle.labels(SHOWN).tolist() == [0, 1]
    assert oracle.score(SHOWN, torch.tensor([0, 0])).tolist() == [1.0, 0.0]
    assert not {"probabilities", "logits", "target_model"} & set(dir(oracle))


def test_a_score_oracle_gives_no_gradient() -> None:
    shown = SHOWN.clone().requires_grad_(True)
    scores = ScoreOracle(Target()).probabilities(shown)
    assert not scores.requires_grad
    torch.testing.assert_close(scores, SHOWN.flatten(1)[:, :3].softmax(1))
    assert not {"logits", "target_model"} & set(dir(ScoreOracle(Target())))


def test_a_white_box_gives_features_logits_and_gradients() -> None:
    shown = SHOWN.clone().requires_grad_(True)
    features, logits = WhiteBoxOracle(Target()).features_and_logits(shown)
    assert torch.equal(features, logits)
    assert torch.autograd.grad(logits[0, 1], shown)[0].flatten().tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
