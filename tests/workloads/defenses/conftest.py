"""What golden tests of defenses share: the numbers recorded from the authors' code."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.support.golden_networks import golden, kind_of


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest) -> dict[str, Tensor]:
    """The recorded numbers of the defense whose kind the module is named after, in float64."""
    return golden(kind_of(request.path), dtype=torch.float64)
