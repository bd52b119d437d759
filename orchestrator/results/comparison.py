"""The results of two runs of one sweep, compared number by number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["identical", "within its interval", "different", "missing"]


@dataclass(frozen=True)
class Comparison:
    """One number of one trial, then and now."""

    trial: str
    name: str
    then: Mapping[str, float]
    now: Mapping[str, float] | None

    @property
    def verdict(self) -> Verdict:
        """How the new number relates to the old one and its interval."""
        if self.now is None:
            return "missing"
        if self.now["value"] == self.then["value"]:
            return "identical"
        return "within its interval" if self.then["low"] <= self.now["value"] <= self.then["high"] else "different"


def compare(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Comparison]:
    """Every number of the old summary, with the same number of the new one."""
    new = {trial["id"]: dict(_numbers(trial)) for trial in now["trials"]}
    return [
        Comparison(trial["id"], name, estimate, new.get(trial["id"], {}).get(name))
        for trial in then["trials"]
        for name, estimate in _numbers(trial)
    ]


def _numbers(trial: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Names and intervals of a trial's numbers, as a summary holds them."""
    for name, value in trial.items():
        if isinstance(value, dict) and "value" in value:
            yield name, value
    for label, attack in trial["attacks"].items():
        for name, value in attack.items():
            if isinstance(value, dict):
                yield f"{label}.{name}", value
