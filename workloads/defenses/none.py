"""No defense, for specs that want to say so."""

from __future__ import annotations

from typing import Literal

from workloads.defenses.base import DEFENSES, Defense, DefenseConfig


class NoneConfig(DefenseConfig):
    """No settings."""

    kind: Literal["none"] = "none"


@DEFENSES.register(NoneConfig)
class NoDefense(Defense):
    """Train as usual; the same as an empty list of defenses.

    Source: the undefended baseline of every paper on model inversion.
    """
