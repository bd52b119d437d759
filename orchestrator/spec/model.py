"""The experiment spec: everything that defines a sweep, as frozen plain data."""

from __future__ import annotations

import shlex
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from orchestrator.errors import AtField
from orchestrator.placement.sizing import Needs
from orchestrator.search.samplers.base import SAMPLERS, SamplerConfig
from orchestrator.search.samplers.grid import GridConfig
from orchestrator.search.space import Distribution, Objective
from orchestrator.spec.target import Target
from workloads.core.config import Addition, ComponentConfig, FrozenConfig, content, digest
from workloads.core.numerics import MachineKind
from workloads.datasets.base import DATASETS, DatasetConfig, SplitConfig
from workloads.defenses.base import DEFENSES, DefenseConfig
from workloads.inversion.attack import ATTACKS, AttackConfig
from workloads.metrics.attack_accuracy import AttackAccuracyConfig
from workloads.metrics.base import METRICS, MetricConfig
from workloads.metrics.knn_distance import KnnDistanceConfig
from workloads.metrics.natural_accuracy import NaturalAccuracyConfig
from workloads.models.base import MODELS, ModelConfig
from workloads.priors.base import PRIORS, PriorConfig
from workloads.recipes.optimization import TrainingConfig

WHERE_AND_HOW = frozenset({"description", "resources", "tracking", "storage", "on_end"})
"""Sections that describe a sweep or say where and how it runs; they change neither its results nor its id."""

EXTENDS = "extends"
ABOUT_EXTENDS = (
    "Another spec, relative to this one, that this one's fields are put over: sections field by field, lists as a "
    "whole or, where a mapping stands in their place, at the positions that it names, with `append` for items to add."
)

STORE_SCHEMES = frozenset({"file", "s3", "gs", "gcs", "abfs", "abfss", "hdfs"})
"""URI schemes that pyarrow can open as an artifact store."""


class DataConfig(FrozenConfig):
    """The private data that must not leak, and the public data that the attacker has."""

    private: Annotated[DatasetConfig, DATASETS]
    """Images that the target and the evaluation model are trained on, and that attacks try to reconstruct."""
    public: Annotated[DatasetConfig, DATASETS]
    """Images that the attacker has, for example to train a prior. It must not hold private identities."""
    split: SplitConfig = SplitConfig()
    """How the private images are divided into those for training and those held out for measuring."""
    copies: Annotated[Literal["refuse", "report"], Addition()] = "refuse"
    """What to do where public images are private ones, pixel for pixel: `refuse` the spec, or `report` it with the
    results. Near copies, and held-out images that are copies of training images, are always reported."""


class ClassifierConfig(FrozenConfig):
    """A classifier and how it is trained."""

    model: Annotated[ModelConfig, MODELS]
    """Architecture, and the weights that it starts from."""
    training: TrainingConfig = TrainingConfig()
    """Epochs, optimizer, learning rate and augmentation of its training."""


def distinct_seeds(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """The seeds unchanged.

    Raises:
        ValueError: if one is there twice, or is none that a table holds.
    """
    if any(not 0 <= seed < 2**63 for seed in seeds):
        raise ValueError(f"{list(seeds)} has one below 0 or beyond 63 bits: take others")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{list(seeds)} repeats one: each is trained once")
    return seeds


Seeds = Annotated[tuple[int, ...], Field(min_length=1), AfterValidator(distinct_seeds)]
"""Seeds of what is drawn several times, each another."""


class EvaluationConfig(ClassifierConfig):
    """The classifiers that judge reconstructions."""

    seeds: Seeds = (0, 1, 2)
    """One evaluation model is trained with each; numbers are means over them, and intervals hold their spread."""


class ConfirmConfig(FrozenConfig):
    """Measuring what a search picked with draws that did not pick it: the best of several looks better than it is.

    The points and the one without defenses are trained again with other training seeds, judged by as many other
    evaluation models, and attacked with as many other fits of each prior; the report is about these numbers alone.
    """

    points: Literal["frontier", "best"] | PositiveInt = "frontier"
    """Which points: those with a defense that no other beats (the best one if no defense beats all), the `best` by the
    sum of its gains, or a number of the best so."""
    seeds: PositiveInt = 3
    """Number of training seeds, none of which is one of the search's."""


class SearchConfig(FrozenConfig):
    """What to vary, how, with which training seeds, and what to trade."""

    sampler: Annotated[SamplerConfig, SAMPLERS] = GridConfig()
    """How points are chosen from the space."""
    space: dict[str, Distribution] = Field(default_factory=dict)
    """Fields to vary, by dotted path such as `defenses.0.max_area`, each with its distribution."""
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)] = (
        Objective(metric="natural_accuracy", goal="max"),
        Objective(metric="gmi.attack_accuracy", goal="min"),
    )
    """Numbers to trade against each other; reports show the first two."""
    seeds: Seeds = (0,)
    """Training seeds. Each point is trained once with each; their spread is reported apart from intervals."""
    baseline: bool = True
    """Add the point without any defense, which every trade-off is measured against."""
    confirm: Annotated[ConfirmConfig | None, Addition()] = None
    """Measure the points that the search picks again, with other seeds of everything; `{}` does so for its frontier. If
    omitted, nothing is confirmed, and the report says that what it picked is flattered."""

    @model_validator(mode="after")
    def _objectives_differ(self) -> SearchConfig:
        names = [objective.metric for objective in self.objectives]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise AtField(f"{name!r} is an objective already: remove one", "objectives", index)
        return self

    @model_validator(mode="after")
    def _space_suits_sampler(self) -> SearchConfig:
        self.sampler.check_space(self.space)
        return self


def _unset_if_auto(value: object) -> object:
    """Read `auto`, which a spec may write for resources that it does not set."""
    return {} if value == "auto" else value


class ResourceConfig(FrozenConfig):
    """What one job of a kind reserves while it runs; what is left out follows from the machine and earlier jobs."""

    cpus: PositiveInt | None = None
    """CPU cores, and torch threads, per job. Changing it changes results in the last bits. If omitted: 1, and an eighth
    of the cores beside each GPU for a job that uses one."""
    gpus: NonNegativeFloat | None = None
    """GPUs per job; a fraction shares one GPU with other jobs, and 0 computes on the CPU. If omitted: a share where
    there are GPUs, as large as the memory that a job of its shape took."""
    memory_gb: PositiveFloat | None = None
    """Main memory per job, in GiB. It decides how many jobs a machine takes at a time; nothing enforces it. If omitted:
    1, or 1.2 times what a job of its shape took."""
    gpu_memory_gb: PositiveFloat | None = None
    """Memory on each GPU per job, in GiB; a job that needs more runs again alone on a GPU. If omitted, 1.2 times what a
    job of its shape took, and an estimate for the first."""
    timeout_s: PositiveFloat | None = None
    """Seconds that a job may take; one that takes longer fails, and its log says what each of its threads was doing.
    If omitted, there is no limit."""

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, gpus: float | None) -> float | None:
        if gpus is not None and gpus > 1 and gpus != int(gpus):
            raise ValueError(f"{gpus:g} GPUs: above one only whole GPUs can be had")
        return gpus

    def needs(self) -> Needs:
        """The same numbers, as planner and executors take them."""
        return Needs(self.cpus, self.gpus, self.memory_gb, self.gpu_memory_gb, timeout_s=self.timeout_s)


AutoResources = Annotated[
    ResourceConfig, BeforeValidator(_unset_if_auto, json_schema_input_type=ResourceConfig | Literal["auto"])
]
"""Resources of one kind of job: a section, or `auto`, which sets nothing."""


class ResourcesConfig(FrozenConfig):
    """Resources by kind of job."""

    train_classifier: AutoResources = ResourceConfig()
    """Training a target model, an evaluation model or a model on public data."""
    import_classifier: AutoResources = ResourceConfig()
    """Reading a target model that somebody else trained."""
    import_black_box: AutoResources = ResourceConfig()
    """Reading a program, or finding a service."""
    fit_prior: AutoResources = ResourceConfig()
    """Training a prior on public data."""
    fit_surrogate: AutoResources = ResourceConfig()
    """Training a surrogate of the target model."""
    run_attack: AutoResources = ResourceConfig()
    """Reconstructing identities with one attack."""
    evaluate_classifier: AutoResources = ResourceConfig()
    """Measuring a classifier on held-out private images."""
    real_images: AutoResources = ResourceConfig()
    """Taking held-out images of the people attacked, for the ceiling of every attack."""
    evaluate_attack: AutoResources = ResourceConfig()
    """Measuring the reconstructions of one attack."""
    start_mps: bool = False
    """Start NVIDIA's multi-process service for the time of a run on this machine, so that jobs that share a GPU compute
    side by side. It takes `nvidia-cuda-mps-control` on PATH; a service that runs already is used in any case."""

    @classmethod
    def kinds(cls) -> list[str]:
        """The kinds of jobs."""
        return [name for name in cls.model_fields if name != "start_mps"]

    def of(self, kind: str) -> ResourceConfig:
        """Resources of one kind of job."""
        resources: ResourceConfig = getattr(self, kind)
        return resources


def without_secret(uri: str | None, instead: str) -> str | None:
    """The URI unchanged.

    Raises:
        ValueError: if it has a password, which would be stored in resolved.json, in reports and in MLflow.
    """
    if uri is not None and urlsplit(uri).password is not None:
        raise ValueError(f"holds a password, which would be stored with the results: put it into {instead}")
    return uri


class TrackingConfig(FrozenConfig):
    """Whether and where results are sent to MLflow."""

    enabled: bool = True
    """Send results to MLflow while a sweep runs and at its end. `midre sync` does so later for a run without it."""
    uri: str | None = None
    """MLflow tracking server or database (`sqlite:///FILE`); if omitted, that of MLFLOW_TRACKING_URI, else a SQLite
    file beside the runs. Put credentials into MLflow's environment variables, never here."""
    experiment: Annotated[str, Field(min_length=1, max_length=500)] = "midre"
    """Name of the MLflow experiment that the runs are filed under."""
    every_s: Annotated[float, Field(ge=1)] = 30.0
    """Seconds between updates of MLflow, tables and report while a sweep runs. MLflow also hears of each trial that
    ends, unless the one before is only seconds ago."""
    jobs: bool = False
    """Make a run of each distinct job as well, with its curves and pictures: many runs, which pages show slowly."""

    @field_validator("uri")
    @classmethod
    def _can_be_used(cls, uri: str | None) -> str | None:
        if uri is not None and urlsplit(uri).scheme in ("", "file"):
            raise ValueError(f"{uri} is a folder, and MLflow 3 keeps none: take sqlite:///FILE or a server's address")
        return without_secret(uri, "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")


class StorageConfig(FrozenConfig):
    """Where results are stored."""

    runs: str | None = None
    """Folder of runs. The option `--runs` and the variable MIDRE_RUNS take precedence; ./runs if none is set."""
    artifacts: str | None = None
    """Folder or URI (s3://, gs://) of the artifact store; the folder `store` beside the runs if omitted."""
    checkpoint_every_s: PositiveFloat = 20.0
    """Seconds between checkpoints of a running job, so the most work that a killed worker loses."""
    grace_s: NonNegativeFloat = 10.0
    """Seconds that running jobs have to save where they stand when a run is stopped (Ctrl-C, SIGTERM)."""

    @field_validator("artifacts")
    @classmethod
    def _can_be_opened(cls, artifacts: str | None) -> str | None:
        scheme, separator, _ = (artifacts or "").partition("://")
        if separator and scheme not in STORE_SCHEMES:
            raise ValueError(
                f"{scheme}:// cannot be opened: take a folder, or one of {', '.join(sorted(STORE_SCHEMES))}"
            )
        return without_secret(artifacts, "environment variables, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")


class Spec(FrozenConfig):
    """One sweep: data, models, defenses, attacks, metrics, and what is searched over."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    """Name of the sweep; the name of its run folder begins with it."""
    description: str = ""
    """A note for readers of the report. It has no effect on results."""
    data: DataConfig
    """Private data, public data, and how the private images are split."""
    target: Target
    """The target model: the classifier that is defended and attacked, or a program or a service that is only asked."""
    defenses: tuple[Annotated[DefenseConfig, DEFENSES], ...] = ()
    """Defenses of the target model, applied together in this order. `kind: none` stands for no defense."""
    evaluation: EvaluationConfig
    """The evaluation models: classifiers that judge reconstructions and that no attack can query."""
    prior: Annotated[PriorConfig, PRIORS] | None = None
    """Prior used by every attack that does not set one."""
    attacks: Annotated[tuple[Annotated[AttackConfig, ATTACKS], ...], Field(min_length=1)]
    """Attacks that every trial runs against its target model, at least one."""
    metrics: Annotated[tuple[Annotated[MetricConfig, METRICS], ...], Field(min_length=1)] = (
        NaturalAccuracyConfig(),
        AttackAccuracyConfig(),
        KnnDistanceConfig(),
    )
    """What is measured of target model and reconstructions: at least one metric of each."""
    floors: bool = True
    """Measure beside each attack what it has to beat, samples of its prior that nothing improved and public images, and
    what none can exceed, held-out images of the people attacked. It costs seconds."""
    search: SearchConfig = SearchConfig()
    """Which fields are varied, by which sampler, and which numbers are traded against each other."""
    numerics: Annotated[Literal["recorded", "strict"], Addition()] = "recorded"
    """What is done about threads, devices and versions of torch, which change the last bits of results. `recorded`
    stores them with each result and says where one sweep mixes them. `strict` makes them part of every key, so that
    results of two kinds of machine are never mixed, and a job on another kind than this machine fails."""
    resources: Annotated[
        ResourcesConfig, BeforeValidator(_unset_if_auto, json_schema_input_type=ResourcesConfig | Literal["auto"])
    ] = ResourcesConfig()
    """CPUs, GPUs and memory of each kind of job; `auto`, the default, leaves all to the machine."""
    tracking: TrackingConfig = TrackingConfig()
    """Whether and where results are sent to MLflow."""
    storage: StorageConfig = StorageConfig()
    """Where runs and artifacts are stored, and how often jobs save checkpoints."""
    on_end: str = ""
    """A command that is run when the sweep ends, such as a notification: it reads the summary, as JSON, on stdin, and
    MIDRE_STATUS is the exit status of the run. It is kept with the results: put secrets into the environment."""

    @field_validator("on_end")
    @classmethod
    def _is_a_command(cls, on_end: str) -> str:
        try:
            shlex.split(on_end)
        except ValueError as error:
            raise ValueError(f"{on_end} is no command: {error}") from error
        return on_end

    @field_validator("defenses")
    @classmethod
    def _none_is_nothing(cls, defenses: tuple[ComponentConfig, ...]) -> tuple[ComponentConfig, ...]:
        return tuple(defense for defense in defenses if defense.kind != "none")

    @model_validator(mode="after")
    def _distinct(self) -> Spec:
        labels = [attack.label for attack in self.attacks]
        metrics = [metric.label for metric in self.metrics]
        for section, names, way_out in (
            ("attacks", labels, "remove it or set its name"),
            ("metrics", metrics, "remove it"),
        ):
            for index, name in enumerate(names):
                if name in names[:index]:
                    raise AtField(f"{name!r} is there already: {way_out}", section, index)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add `extends`, which a file may have and no spec does: it is followed while files are read."""
        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        fields = handler.resolve_ref_schema(schema)
        fields["properties"][EXTENDS] = {"type": "string", "title": "Extends", "description": ABOUT_EXTENDS}
        fields |= {"if": {"required": [EXTENDS]}, "else": {"required": fields.pop("required")}}
        return schema

    def plain(self) -> dict[str, Any]:
        """The spec as plain data, with every default written out."""
        return self.model_dump(mode="json")


class ResolvedSpec(FrozenConfig):
    """A spec with the digests of its data, which together identify a sweep, and what else readers should know."""

    spec: Spec
    """The spec, every default written out."""
    private_digest: str
    """SHA-256 of the private data, as 64 hexadecimal digits."""
    public_digest: str
    """SHA-256 of the public data, as 64 hexadecimal digits."""
    machine: MachineKind | None = None
    """The kind of machine that all jobs run on, with `numerics: strict`; None otherwise."""
    plugins: tuple[str, ...] = ()
    """Distributions whose components the spec names beside midre's, such as `midre-example==1.0`."""
    notes: tuple[str, ...] = ()
    """What readers of the results should know, in sentences: which images were left out or are copies, what a defense
    cannot do at these settings."""

    @property
    def sweep(self) -> str:
        """Id of the sweep, `<name>-<first 8 hex of the hash>`. Where and how it runs does not enter the hash."""
        determining = {name: value for name, value in content(self.spec).items() if name not in WHERE_AND_HOW}
        machine = {"machine": content(self.machine)} if self.machine else {}
        data = {"private": self.private_digest, "public": self.public_digest}
        hashed = digest({"spec": determining, **data, **machine})
        return f"{self.spec.name}-{hashed[:8]}"
