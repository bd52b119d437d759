"""What golden tests of attacks share: numbers recorded from the authors' code, and the networks behind them."""

from __future__ import annotations

import pytest
from torch import Tensor

from tests.support.golden_networks import TinyNetworks, golden, golden_networks, kind_of


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest) -> dict[str, Tensor]:
    """The recorded numbers of the attack whose kind the module is named after."""
    return golden(kind_of(request.path))


@pytest.fixture(scope="module")
def networks() -> TinyNetworks:
    """The networks in float64, frozen and in eval mode."""
    return golden_networks()
