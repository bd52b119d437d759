"""Whether reconstructions lie closer to the private images or to those images after random erasing."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

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
from workloads.metrics.intervals import Estimate, Scale
from workloads.metrics.prdc import prdc
from workloads.models.base import Classifier
from workloads.training.prediction import channel_mean

ROWS = 128
SHOWN_IDENTITIES = 4
"""Identities in the picture; the paper's figure has as many."""

Clouds = Mapping[str, Tensor]
"""Features of one identity: `private`, `erased` and `reconstructed`. Shape: (N, F) float64 each."""
Plane = Mapping[str, list[list[float]]]
"""The same points in a plane, each as [x, y]."""


class FeatureSpaceConfig(ExtractorMetricConfig):
    """How private images are erased for comparison, and which features are compared."""

    version: ClassVar[int] = 2
    kind: Literal["feature_space"] = "feature_space"
    erasing: RandomErasingConfig = RandomErasingConfig()
    """How private images are erased for comparison, whichever defense the target model has."""
    erasures: PositiveInt = 8
    """Erased copies of each private image."""
    k: PositiveInt = 3
    """A point's radius is the distance to its k-th nearest neighbour, for the two manifolds."""


@METRICS.register(FeatureSpaceConfig)
class FeatureSpace(AttackMetric):
    """Whether reconstructions of a person lie among the private images, or among those images with boxes erased.

    For each of the two sets: `hull_overlap`, the intersection over union of the convex hulls in a plane, spanned by the
    first two principal components of all three sets of that person; `manifold_precision`, the share of reconstructions
    within the set's manifold, and `manifold_recall`, the share of the set within theirs (see `prdc`). `distance_ratio`
    is the mean squared distance to the private images over that to the erased ones, over all pairs and dimensions.

    A defender wants low numbers for the private images. If those for the erased images are high at the same time, and
    the ratio is above 1, the attack recovered what the target model was shown, which was not the complete face. If all
    numbers are low, it recovered neither, which is better still.

    The paper shows the picture without numbers, and its projection is not published. Here all trials use the features
    of the same network, so that they can be compared.

    Source: Tran et al., "Random Erasing vs. Model Inversion", TMLR 2025, figure 2.
    """

    config: FeatureSpaceConfig

    def better(self) -> dict[str, str]:
        """Less overlap and a larger distance ratio are better."""
        measures = itertools.product(("hull_overlap", "manifold_precision", "manifold_recall"), ("private", "erased"))
        names = {f"{measure}_{cloud}": "lower" for measure, cloud in measures} | {"distance_ratio": "higher"}
        return {f"{name}_{self.config.space}": direction for name, direction in names.items()}

    def scale(self, name: str) -> Scale:
        """All but the ratio are shares."""
        return "positive" if name.startswith("distance_ratio") else "fraction"

    @property
    def fewest_reconstructions(self) -> int:
        """One more than k neighbours, and three points for a hull."""
        return max(self.config.k + 1, 3)

    @property
    def fewest_private_images(self) -> int:
        """The same number as of reconstructions."""
        return self.fewest_reconstructions

    def estimates(self, evidence: ReconstructionEvidence, *, context: JobContext) -> dict[str, Estimate]:
        """The mean over identities of each measure; draws the first few identities as well."""
        draws = functools.partial(context.generator, self.config.label)
        erasing = _erasing(self.config.erasing, evidence, draws)
        attacked, rows = evidence.identities.unique(), []
        panels: list[dict[str, object]] = []
        for identity in attacked.tolist():
            clouds = self._clouds(evidence, identity, erasing)
            plane = in_plane(clouds)
            rows.append(_measures(clouds, plane, k=self.config.k))
            if len(panels) < SHOWN_IDENTITIES:
                panels.append({"identity": evidence.private.names[identity], **plane})
        context.write_json(f"{self.config.label}.json", panels)
        columns = torch.tensor(rows, dtype=torch.float64).T
        return over_identities(dict(zip(self.better(), columns, strict=True)), attacked, self)

    def _clouds(self, evidence: ReconstructionEvidence, identity: int, erasing: RandomErasing) -> Clouds:
        generator = erasing.facts.generator_on_device("erasing", identity)
        positions = positions_by_content(evidence.private.images, evidence.private.identities == identity)
        erased = [
            _features_erased(evidence.network, evidence.private.images, rows, erasing, generator)
            for _ in range(self.config.erasures)
            for rows in positions.split(ROWS)
        ]
        return {
            "private": evidence.private_features[positions].double(),
            "erased": torch.cat(erased).double(),
            "reconstructed": evidence.features[evidence.identities == identity].double(),
        }


def _erasing(
    config: RandomErasingConfig, evidence: ReconstructionEvidence, draws: Callable[..., torch.Generator]
) -> RandomErasing:
    """The random erasing defense, set up for the private images and this network."""
    network, private = evidence.network, evidence.private
    facts = TrainingFacts(
        images=len(private),
        image_shape=(private.images.shape[1], network.image_size, network.image_size),
        channel_mean=channel_mean(network, private.images).to(network.mean.device),
        generator=draws,
        device=network.mean.device,
    )
    return RandomErasing(config, facts=facts)


@torch.no_grad()
def _features_erased(
    network: Classifier, images: Tensor, rows: Tensor, erasing: RandomErasing, generator: torch.Generator
) -> Tensor:
    """Features of the images at `rows` after erasing. Shape: images (N, C, H, W) uint8, rows (B,) to (B, F)."""
    normalized = network.normalize(images[rows].to(network.mean.device).float() / 255)
    return network.features(erasing.augment(normalized, indices=rows.to(normalized.device), generator=generator)).cpu()


def in_plane(clouds: Clouds) -> Plane:
    """Project the points onto the first two principal components of all clouds together.

    The largest loading of each component is made positive; otherwise its sign would depend on the solver.
    """
    points = torch.cat(list(clouds.values()))
    centred = points - points.mean(0)
    components = torch.linalg.svd(centred, full_matrices=False).Vh[:2]
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    placed = (centred @ (components * largest.sign()).T).split([len(cloud) for cloud in clouds.values()])
    return {name: points.tolist() for name, points in zip(clouds, placed, strict=True)}


def _measures(clouds: Clouds, plane: Plane, *, k: int) -> list[float]:
    """The numbers of one identity, in the order of their names."""
    hulls = {name: convex_hull([(x, y) for x, y in points]) for name, points in plane.items()}
    reconstructed, references = clouds["reconstructed"], (clouds["private"], clouds["erased"])
    overlaps = [overlap(hulls["reconstructed"], hulls[name]) for name in ("private", "erased")]
    manifolds = [prdc(reference, reconstructed, k=k) for reference in references]
    precisions, recalls = [manifold.precision for manifold in manifolds], [manifold.recall for manifold in manifolds]
    to_private, to_erased = ((torch.cdist(reconstructed, reference) ** 2).mean().item() for reference in references)
    return [*overlaps, *precisions, *recalls, to_private / to_erased]
