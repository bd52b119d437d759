"""Jobs and trials as plain data: what a driver hands to trials, a broker and workers. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.placement.sizing import Needs


@dataclass(frozen=True)
class PlannedJob:
    """One unit of compute: its identity, its config as plain data, what it reads, what it needs."""

    key: str
    """SHA-256 of all that determines its result."""
    kind: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    """Keys of the jobs whose artifacts it reads, by the role they have for it."""
    needs: Needs = field(default_factory=Needs)
    """What the spec sets of its resources, and whether it can use a GPU."""
    shape: str = ""
    """The same for jobs that take about the same memory; empty if nothing is to be learned from it."""
    estimate_gb: float | None = None
    """GPU memory of its tensors in GiB, if it was worked out."""
    machine: Mapping[str, Any] | None = None
    """The kind of machine that its key names, as a `MachineKind`; None if any will do."""
    code: Mapping[str, str] = field(default_factory=dict)
    """Digest of every module that computes it, by name; part of its artifact's facts, and not of its key."""
    alone: str | None = None
    """What is asked by one job at a time, such as a service with a limited rate; None for a job that runs beside any.
    """
    plugins: tuple[str, ...] = ()
    """Distributions that it needs beside midre, such as `midre-example==1.0`."""


Stage = Literal["search", "confirm"]
"""What a trial is for: to find good points, or to measure those that were picked with draws that did not pick them."""


@dataclass(frozen=True)
class Trial:
    """One point of the search space with one training seed."""

    id: str
    point: int
    """Position of the point in the order in which the sampler gave them; 0 is the baseline."""
    params: Mapping[str, Any]
    """Values of the searched fields, by dotted path."""
    seed: int
    """Training seed of the target model."""
    baseline: bool
    """Whether the trial is one without any defense."""
    stage: Stage = "search"
    """Whether it belongs to the search, or confirms a point that the search picked."""


@dataclass(frozen=True)
class MemberKeys:
    """Keys of the jobs that prepare one attack of a battery, or the one attack there is."""

    prior: str | None = None
    """The job that fits its prior; None for an attack without one."""
    surrogates: tuple[str, ...] = ()
    """The jobs that fit its surrogates, in their order."""
    attack: str | None = None
    """The job that runs it as one attack of a battery; None for an attack that stands alone."""


@dataclass(frozen=True)
class JudgedKeys:
    """Keys of images that stand for reconstructions, and of their judgement."""

    images: str
    """The job that makes them."""
    judged: tuple[str, ...]
    """The jobs that judge them, one for each evaluation model."""


@dataclass(frozen=True)
class DrawKeys:
    """Keys of the jobs of one attack with one draw of what it prepares."""

    seed: int
    """Seed of its priors and surrogates."""
    attack: str
    """The job that runs it."""
    judged: tuple[str, ...]
    """The jobs that judge its reconstructions, one for each evaluation model."""
    members: Mapping[str, MemberKeys]
    """What the attacks that run are prepared by, by their labels: several for a battery."""
    floors: Mapping[str, JudgedKeys] = field(default_factory=dict)
    """What it has to beat, by name: `null` for samples of a prior, `nearest_public` for public images."""


@dataclass(frozen=True)
class AttackKeys:
    """Keys of the jobs of one attack of a spec."""

    draws: tuple[DrawKeys, ...]
    """With each seed of its prior."""
    ceiling: JudgedKeys | None = None
    """Real images of the people attacked, which none can exceed; None where that is not measured."""

    @property
    def prepares(self) -> bool:
        """Whether anything is drawn for it: a prior, or surrogates."""
        return any(member.prior or member.surrogates for member in self.first.members.values())

    @property
    def first(self) -> DrawKeys:
        """With the first seed: that of pictures, where one is enough to look at."""
        return self.draws[0]


@dataclass(frozen=True)
class JudgeKeys:
    """Keys of the jobs of one evaluation model."""

    seed: int
    """Its training seed."""
    model: str
    """Trains it."""
    measured: str
    """Measures it on held-out images."""


@dataclass(frozen=True)
class TrialKeys:
    """Keys of the jobs of a trial by what they are to it. Two roles may be one job."""

    judges: tuple[JudgeKeys, ...]
    """The evaluation models, by their seeds."""
    target: str
    """Trains the target model."""
    natural: str
    """Measures the target model on held-out images."""
    attacks: Mapping[str, AttackKeys] = field(default_factory=dict)
    """By the attacks' labels."""
    public: str | None = None
    """Trains the classifier on public data that a defense starts from; None where none does."""

    def named(self) -> dict[str, str]:
        """Every key by the name of its role, as people read it: 'target', 'prior/gmi', 'attack/gmi', 'judged/gmi'.

        Where there are several of a role, seeds tell them apart: 'evaluation 1', 'prior/gmi 1', 'judged/gmi 1 by 2'.
        """
        several_judges = len(self.judges) > 1
        keys = {_named("evaluation", judge.seed, several_judges): judge.model for judge in self.judges}
        if self.public is not None:
            keys["public"] = self.public
        keys |= {"target": self.target, "natural": self.natural}
        keys |= {_named("judge", judge.seed, several_judges): judge.measured for judge in self.judges}
        for label, attack in self.attacks.items():
            for draw in attack.draws:
                keys |= self._named_draw(label, draw, several=len(attack.draws) > 1)
            if attack.ceiling is not None:
                keys |= {f"ceiling/{label}": attack.ceiling.images}
                keys |= self._by_judge(f"judged.ceiling/{label}", attack.ceiling.judged)
        return keys

    def _named_draw(self, label: str, draw: DrawKeys, *, several: bool) -> dict[str, str]:
        keys: dict[str, str] = {}
        for member_label, member in draw.members.items():
            if member.prior is not None:
                keys[_named(f"prior/{member_label}", draw.seed, several)] = member.prior
            for number, key in enumerate(member.surrogates):
                keys[_named(f"surrogate.{number}/{member_label}", draw.seed, several)] = key
            if member.attack is not None:
                keys[_named(f"attack/{label}.{member_label}", draw.seed, several)] = member.attack
        keys[_named(f"attack/{label}", draw.seed, several)] = draw.attack
        keys |= self._by_judge(_named(f"judged/{label}", draw.seed, several), draw.judged)
        for name, floor in draw.floors.items():
            keys[_named(f"floor.{name}/{label}", draw.seed, several)] = floor.images
            keys |= self._by_judge(_named(f"judged.{name}/{label}", draw.seed, several), floor.judged)
        return keys

    def _by_judge(self, role: str, judged: tuple[str, ...]) -> dict[str, str]:
        several = len(self.judges) > 1
        return {
            f"{role} by {judge.seed}" if several else role: key for judge, key in zip(self.judges, judged, strict=True)
        }


def _named(role: str, seed: int, several: bool) -> str:
    return f"{role} {seed}" if several else role


@dataclass(frozen=True)
class TrialPlan:
    """A trial with its jobs, inputs before those that read them, and where its numbers come from."""

    trial: Trial
    defenses: tuple[str, ...]
    """Kinds of the target model's defenses."""
    jobs: tuple[PlannedJob, ...]
    keys: TrialKeys

    def job(self, key: str) -> PlannedJob:
        """The job with this key."""
        return next(job for job in self.jobs if job.key == key)

    def measured(self) -> dict[str, tuple[str, ...]]:
        """Keys of the jobs that leave metrics, by the prefix of their names: '' or the attack's label and a dot.

        The trial's numbers are the means over the jobs of a prefix.
        """
        judged = {
            f"{label}.": tuple(key for draw in attack.draws for key in draw.judged)
            for label, attack in self.keys.attacks.items()
        }
        return {"": (self.keys.natural,)} | judged


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: its numbers, or why there are none."""

    metrics: dict[str, float] | None
    error: str = ""
