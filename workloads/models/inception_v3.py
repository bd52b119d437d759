"""Inception-v3 of torchvision, the evaluation model of the 224-pixel protocols."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from workloads.core.errors import ConfigError
from workloads.models.base import MODELS, LibraryClassifier, ModelConfig


class InceptionV3Config(ModelConfig):
    """Input range and weights of an Inception-v3."""

    version: ClassVar[int] = 2
    kind: Literal["inception_v3"] = "inception_v3"


@MODELS.register(InceptionV3Config)
class InceptionV3(LibraryClassifier):
    """Inception-v3 at 299 pixels, whose auxiliary head is trained with the same weight as the main one, as published.

    The input is normalised once, by this model, in training and in evaluation alike: the published code feeds its
    evaluator 2.2 times the contrast it was trained with (`transform_input` is on in one and off in the other).

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016; torchvision.
    """

    fewest_pixels = 75
    fewest_pixels_to_train: ClassVar[int] = 299
    """Side in pixels of the smallest images that the auxiliary head can read, which runs in training alone."""

    def build_body(self) -> tuple[nn.Module, int]:
        """torchvision's network with its auxiliary head, without its last layer."""
        from torchvision.models import inception_v3

        network = inception_v3(
            weights=None, num_classes=self.classes, aux_logits=True, transform_input=False, init_weights=False
        )
        width = network.fc.in_features
        network.fc = nn.Identity()
        return network, width

    def imagenet_url(self) -> str:
        """Address of torchvision's default weights for ImageNet."""
        from torchvision.models import Inception_V3_Weights

        return str(Inception_V3_Weights.DEFAULT.url)

    def features(self, normalized: Tensor) -> Tensor:
        """The pooled output, without the auxiliary head's."""
        output = self.body(normalized)
        return output if isinstance(output, Tensor) else output.logits

    def training_logits(self, normalized: Tensor) -> tuple[Tensor, ...]:
        """Logits of the head and of the auxiliary head."""
        if self.training and self.image_size < self.fewest_pixels_to_train:
            raise ConfigError(
                f"inception_v3 trains with an auxiliary head that needs {self.fewest_pixels_to_train} pixels or more, "
                f"got {self.image_size}: set input_size to {self.fewest_pixels_to_train}."
            )
        output = self.body(normalized)
        if isinstance(output, Tensor):  # in eval mode torchvision leaves out the auxiliary head
            return (self.head(output),)
        return self.head(output.logits), output.aux_logits

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Convolutions and mixed blocks."""
        return [(name, block) for name, block in self.body.named_children() if name.startswith(("Conv2d", "Mixed"))]
