"""Where reconstructions lie between the private images and what random erasing leaves of them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from workloads.context import JobContext
from workloads.defenses.base import TrainingFacts
from workloads.defenses.random_erasing import RandomErasing, RandomErasingConfig
from workloads.metrics.base import (
    METRICS,
    AttackMetric,
    ExtractorMetricConfig,
    ReconstructionEvidence,
    over_identities,
    positions_by_content,
)
from workloads.metrics.geometry import convex_hull, overlap
from workloads.metrics.intervals import Estimate
from workloads.metrics.prdc import prdc
from workloads.models.base import Classifier
from workloads.training.prediction import channel_mean

ROWS = 128
SHOWN_IDENTITIES = 4
"""As many as the figure of the paper has."""

Clouds = Mapping[str, Tensor]
"""Points of one identity by what they are: private, erased, reconstructed. Shape: (N, F) float64 each."""


class FeatureSpaceConfig(ExtractorMetricConfig):
    kind: Literal["feature_space"] = "feature_space"
    erasing: RandomErasingConfig = RandomErasingConfig()
    """What is done to the private images for comparison; whether the target model was defended so is another matter."""
    erasures: PositiveInt = 8
    """Of each private image."""
    k: PositiveInt = 3
    """Neighbours whose distance is a point's radius, for the two manifolds."""


@METRICS.register(FeatureSpaceConfig)
class FeatureSpace(AttackMetric):
    """Whether reconstructions of a person lie among the private images, or among those images with boxes erased.

    Against each of the two sets: `hull_overlap`, the shared part of the convex hulls in a plane, the first two
    principal components of all three sets of that person; `manifold_precision`, the share of reconstructions within
    the set's manifold, and `manifold_recall`, the share of the set within theirs (see `prdc`). `distance_ratio` is the
    mean squared distance to the private images over that to the erased ones, all pairs counted, in all dimensions.

    Low numbers against the private images are what a defender wants. High ones against the erased images beside them,
    and a ratio above 1, say how it came about: the attack recovered what the target model was shown, and that was not
    the whole face. Everything low says that it recovered neither, which is better still.

    The paper shows the picture and gives no numbers; its projection is not published. The features here are those of
    one network for all trials, so that trials compare.

    Source: Tran et al., "Random Erasing vs. Model Inversion", TMLR 2025, figure 2.
    """

    config: FeatureSpaceConfig

    def better(self) -> dict[str, str]:
        measures = itertools.product(("hull_overlap", "manifold_precision", "manifold_recall"), ("private", "erased"))
        names = {f"{measure}_{other}": "lower" for measure, other in measures} | {"distance_ratio": "higher"}
        return {f"{name}_{self.config.space}": direction for name, direction in names.items()}

    @property
    def fewest_reconstructions(self) -> int:
        return max(self.config.k + 1, 3)  # fewer than three have no hull

    @property
    def fewest_private_images(self) -> int:
        return self.fewest_reconstructions

    def estimates(self, evidence: ReconstructionEvidence, *, context: JobContext) -> dict[str, Estimate]:
        draws = functools.partial(context.generator, self.config.label)
        erasing = _erasing(self.config.erasing, evidence, draws)
        attacked, rows = evidence.identities.unique(), []
        panels: list[dict[str, Any]] = []
        for identity in attacked.tolist():
            clouds = self._clouds(evidence, identity, erasing, draws("erasing", identity))
            drawn = in_plane(clouds)
            rows.append(_measures(clouds, drawn, k=self.config.k))
            if len(panels) < SHOWN_IDENTITIES:
                panels.append({"identity": evidence.private.names[identity]} | drawn)
        context.write_json(f"{self.config.label}.json", panels)
        columns = torch.tensor(rows, dtype=torch.float64).T
        return over_identities(dict(zip(self.better(), columns, strict=True)), attacked, context)

    def _clouds(
        self, evidence: ReconstructionEvidence, identity: int, erasing: RandomErasing, generator: torch.Generator
    ) -> Clouds:
        own = positions_by_content(evidence.private.images, evidence.private.identities == identity)
        erased = [
            _features_erased(evidence.network, evidence.private.images, rows, erasing, generator)
            for _ in range(self.config.erasures)
            for rows in own.split(ROWS)
        ]
        return {
            "private": evidence.private_features[own].double(),
            "erased": torch.cat(erased).double(),
            "reconstructed": evidence.features[evidence.identities == identity].double(),
        }


def _erasing(
    config: RandomErasingConfig, evidence: ReconstructionEvidence, draws: Callable[..., torch.Generator]
) -> RandomErasing:
    """The defense itself, as it would erase the private images for this network."""
    network, private = evidence.network, evidence.private
    facts = TrainingFacts(
        images=len(private),
        image_shape=(private.images.shape[1], network.image_size, network.image_size),
        channel_mean=channel_mean(network, private.images),
        generator=draws,
    )
    return RandomErasing(config, facts=facts)


@torch.no_grad()
def _features_erased(
    network: Classifier, images: Tensor, rows: Tensor, erasing: RandomErasing, generator: torch.Generator
) -> Tensor:
    """Features of some of the images after one more erasure. Shape: images (N, C, H, W) uint8, rows (B,) to (B, F)."""
    normalized = network.normalize(images[rows].to(network.mean.device).float() / 255)
    return network.features(erasing.augment(normalized, indices=rows, generator=generator)).cpu()


def in_plane(clouds: Clouds) -> dict[str, list[Any]]:
    """The points along the two principal components of all clouds together, as [x, y].

    The largest loading of each component is positive: its sign would be the solver's choice otherwise.
    """
    points = torch.cat(list(clouds.values()))
    centred = points - points.mean(0)
    components = torch.linalg.svd(centred, full_matrices=False).Vh[:2]
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    placed = (centred @ (components * largest.sign()).T).split([len(own) for own in clouds.values()])
    return {name: own.tolist() for name, own in zip(clouds, placed, strict=True)}


def _measures(clouds: Clouds, drawn: Mapping[str, list[Any]], *, k: int) -> list[float]:
    """The numbers of one identity, in the order of their names."""
    hulls = {name: convex_hull([(x, y) for x, y in points]) for name, points in drawn.items()}
    made, others = clouds["reconstructed"], (clouds["private"], clouds["erased"])
    overlaps = [overlap(hulls["reconstructed"], hulls[name]) for name in ("private", "erased")]
    manifolds = [prdc(real, made, k=k) for real in others]
    to_private, to_erased = ((torch.cdist(made, real) ** 2).mean().item() for real in others)
    return [*overlaps, *(own[0] for own in manifolds), *(own[1] for own in manifolds), to_private / to_erased]
