"""How far a prior's samples are from public images, in features of an untrained network."""

from __future__ import annotations

import torch
from torch import Tensor

from workloads.core.randomness import generator
from workloads.metrics.fid import frechet_distance
from workloads.models.small_cnn import SmallCnnConfig
from workloads.training.classifiers import Architecture
from workloads.training.prediction import features_of


def sample_quality(samples: Tensor, public: Tensor, *, device: torch.device) -> dict[str, float]:
    """Frechet distance of samples to as many public images; that between two halves of the latter shows its floor.

    The features are those of a network with random weights, the same for all priors and data of one shape; this is not
    an FID. They are computed on `device`.

    Shape: samples (N, C, H, W) in [0, 1]; public (M, C, H, W) uint8, M >= N.
    Source: Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", ICML 2020, section 4, on
    embeddings by networks that were never trained.
    """
    channels, size = samples.shape[1:3]
    network = Architecture(
        model=SmallCnnConfig(width=32, stages=3), classes=2, channels=channels, image_size=size
    ).build()
    network.draw_weights(generator("random features"))
    network.to(device).requires_grad_(False)
    order = torch.randperm(len(public), generator=generator("random features", "public"))[: len(samples)]
    sample_features, features = (features_of(network, images).double() for images in (samples, public[order]))
    half = len(features) // 2
    return {
        "frechet_random_features": frechet_distance(sample_features, features),
        "frechet_random_features_of_public_halves": frechet_distance(features[:half], features[half : 2 * half]),
        "images": float(len(samples)),
    }
