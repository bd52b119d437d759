"""The experiment spec: everything a sweep is asked to do, as frozen plain data."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator

from orchestrator.errors import AtField
from orchestrator.planning.graph import Request
from orchestrator.spec.search_space import SearchConfig
from workloads.core.config import ComponentConfig, FrozenConfig, content, digest
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

WHERE_AND_HOW = frozenset({"description", "resources", "tracking", "storage"})
"""Sections that say where and how a sweep runs, or describe it: they change no result and no identity."""

OPENED = frozenset({"file", "s3", "gs", "gcs", "abfs", "abfss", "hdfs"})
"""Schemes of artifact stores that pyarrow opens."""


class DataConfig(FrozenConfig):
    """What must not leak, and what the attacker has."""

    private: Annotated[DatasetConfig, DATASETS]
    public: Annotated[DatasetConfig, DATASETS]
    split: SplitConfig = SplitConfig()


class ClassifierConfig(FrozenConfig):
    """A classifier and how it is trained."""

    model: Annotated[ModelConfig, MODELS]
    training: TrainingConfig = TrainingConfig()


class ResourceConfig(FrozenConfig):
    """What one job of a kind occupies while it runs."""

    cpus: PositiveInt = 1
    """CPUs, and threads of the job: results are bit for bit the same for the same number only."""
    gpus: NonNegativeFloat = 0.0
    """GPUs; a fraction shares one with other jobs, which is an agreement and not a limit."""
    memory_gb: PositiveFloat = 1.0

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"{gpus:g} GPUs: above one only whole GPUs can be had")
        return gpus

    def request(self) -> Request:
        return Request(self.cpus, self.gpus, self.memory_gb)


class ResourcesConfig(FrozenConfig):
    """Resources by kind of job."""

    train_classifier: ResourceConfig = ResourceConfig()
    fit_prior: ResourceConfig = ResourceConfig()
    fit_surrogate: ResourceConfig = ResourceConfig()
    run_attack: ResourceConfig = ResourceConfig()
    evaluate_classifier: ResourceConfig = ResourceConfig()
    evaluate_attack: ResourceConfig = ResourceConfig()


def without_secret(uri: str | None, instead: str) -> str | None:
    """Refuse a URI with a password: it would lie in resolved.json, in reports and in MLflow."""
    if uri is not None and urlsplit(uri).password is not None:
        raise ValueError(f"holds a password, which would be stored with the results: put it into {instead}")
    return uri


class TrackingConfig(FrozenConfig):
    """Where MLflow is."""

    enabled: bool = True
    uri: str | None = None
    """Tracking server or database; a SQLite file beside the runs where omitted. Credentials belong into MLflow's
    own environment variables, never here."""
    experiment: Annotated[str, Field(min_length=1)] = "midre"

    @field_validator("uri")
    @classmethod
    def _keeps_no_secret(cls, uri: str | None) -> str | None:
        return without_secret(uri, "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")


class StorageConfig(FrozenConfig):
    """Where results lie."""

    runs: str | None = None
    """Folder of runs; `--runs` and MIDRE_RUNS come first, ./runs last."""
    artifacts: str | None = None
    """Folder or URI (s3://, gs://) of the artifact store; `store` inside the folder of runs where omitted."""
    checkpoint_every_s: PositiveFloat = 20.0
    """How often a running job saves where it stands: what a killed worker may lose."""

    @field_validator("artifacts")
    @classmethod
    def _can_be_opened(cls, artifacts: str | None) -> str | None:
        scheme, separator, _ = (artifacts or "").partition("://")
        if separator and scheme not in OPENED:
            raise ValueError(f"{scheme}:// cannot be opened: take a folder, or one of {', '.join(sorted(OPENED))}")
        return without_secret(artifacts, "the environment, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")


class Spec(FrozenConfig):
    """One sweep."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    description: str = ""
    data: DataConfig
    target: ClassifierConfig
    defenses: tuple[Annotated[DefenseConfig, DEFENSES], ...] = ()
    evaluation: ClassifierConfig
    prior: Annotated[PriorConfig, PRIORS] | None = None
    """Of attacks that name none of their own."""
    attacks: Annotated[tuple[Annotated[AttackConfig, ATTACKS], ...], Field(min_length=1)]
    metrics: Annotated[tuple[Annotated[MetricConfig, METRICS], ...], Field(min_length=1)] = (
        NaturalAccuracyConfig(),
        AttackAccuracyConfig(),
        KnnDistanceConfig(),
    )
    search: SearchConfig = SearchConfig()
    resources: ResourcesConfig = ResourcesConfig()
    tracking: TrackingConfig = TrackingConfig()
    storage: StorageConfig = StorageConfig()

    @field_validator("defenses")
    @classmethod
    def _none_is_nothing(cls, defenses: tuple[ComponentConfig, ...]) -> tuple[ComponentConfig, ...]:
        return tuple(defense for defense in defenses if defense.kind != "none")

    @model_validator(mode="after")
    def _distinct(self) -> Spec:
        labels = [attack.label for attack in self.attacks]
        metrics = [metric.label for metric in self.metrics]
        for what, names, way_out in (
            ("attacks", labels, "remove it or give it a name of its own"),
            ("metrics", metrics, "remove it"),
        ):
            for index, name in enumerate(names):
                if name in names[:index]:
                    raise AtField(f"{name!r} is there already: {way_out}", what, index)
        return self

    def plain(self) -> dict[str, Any]:
        """The spec as plain data, with every default written out."""
        return self.model_dump(mode="json")


class ResolvedSpec(FrozenConfig):
    """A spec with the digests of the data it names: the identity of a sweep."""

    spec: Spec
    private_digest: str
    public_digest: str

    @property
    def sweep(self) -> str:
        """`<name>-<first 8 hex of the hash>`; where and how it runs has no part in it."""
        asked = {name: value for name, value in content(self.spec).items() if name not in WHERE_AND_HOW}
        hashed = digest({"spec": asked, "private": self.private_digest, "public": self.public_digest})
        return f"{self.spec.name}-{hashed[:8]}"
