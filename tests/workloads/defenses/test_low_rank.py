"""The bottleneck before the last layer."""

from __future__ import annotations

import pytest
import torch

from workloads.core.errors import ConfigError
from workloads.defenses.low_rank import LowRankConfig
from workloads.models.base import MODELS, Classifier
from workloads.models.small_cnn import SmallCnnConfig


def network(rank: int) -> Classifier:
    model = MODELS.build(SmallCnnConfig(width=4), classes=6, channels=1, image_size=32)
    LowRankConfig(rank=rank).change_model(model)
    return model


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_logits_span_as_many_directions_as_the_rank(rank: int) -> None:
    torch.manual_seed(0)
    model = network(rank).double().eval()
    logits = model(torch.rand(12, 1, 32, 32, dtype=torch.double))
    differences = logits - logits[:1]  # without the bias, which every row has
    assert logits.shape == (12, 6)
    assert torch.linalg.matrix_rank(differences, rtol=1e-9) == rank


@pytest.mark.parametrize("rank", [6, 7])
def test_a_rank_that_limits_nothing_is_refused(rank: int) -> None:
    with pytest.raises(ConfigError, match=rf"^rank {rank} limits nothing for 6 classes and \d+ features"):
        network(rank)
