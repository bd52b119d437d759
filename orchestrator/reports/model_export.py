"""The target model of one trial as files to use elsewhere: weights, class names, a model card, and an ONNX file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file

from orchestrator.errors import RequestError
from orchestrator.reports.onnx_file import write_onnx
from orchestrator.reports.tables import in_words, with_interval, with_scale
from orchestrator.results.sweep_result import SweepResult, TrialResult
from orchestrator.store.artifacts import ArtifactStore
from workloads.black_boxes.stored import holds_black_box
from workloads.models.base import Classifier
from workloads.training.classifiers import load_classifier

WEIGHTS, CLASSES, CARD, ONNX = "model.safetensors", "classes.txt", "README.md", "model.onnx"


@dataclass(frozen=True)
class Export:
    """What was written."""

    files: list[Path]
    without_onnx: str | None
    """Why there is no ONNX file among them; None if there is one."""


def export_model(result: SweepResult, trial: TrialResult, store: ArtifactStore, folder: Path) -> Export:
    """Write weights, class names and card into a folder, and the whole network as ONNX if that can be.

    Raises:
        RequestError: if the folder holds files, or the target model can only be asked.
    """
    if folder.exists() and any(folder.iterdir()):
        raise RequestError(f"--to {folder}: it holds files already: name an empty folder.")
    artifact = store.open(trial.plan.keys.target)
    if holds_black_box(artifact):
        raise RequestError(f"trial {trial.id}: its target model can only be asked: there is no network to export.")
    model = load_classifier(artifact, device=torch.device("cpu"))
    names = store.read_json(trial.plan.keys.target, "identities.json")
    private = result.resolved.spec.data.private
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / name for name in (WEIGHTS, CLASSES, CARD)]
    weights = {name: weight.contiguous() for name, weight in _published_weights(model).items()}
    save_file(weights, files[0], metadata={"format": "pt"})
    files[1].write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    without_onnx = write_onnx(model, size=private.image_size, file=folder / ONNX)
    if without_onnx is None:
        files.append(folder / ONNX)
    files[2].write_text("\n".join(_card(result, trial, model, without_onnx)) + "\n", encoding="utf-8")
    return Export(files, without_onnx)


def _published_weights(model: Classifier) -> dict[str, torch.Tensor]:
    """Weights by the names of the library that the network comes from; mean and std of the input stand in the card."""
    weights = {name: weight for name, weight in model.state_dict().items() if name not in ("mean", "std")}
    return model.named_as_published(weights)


def _card(result: SweepResult, trial: TrialResult, model: Classifier, without_onnx: str | None) -> Iterator[str]:
    """The lines of the model card."""
    resolved = result.resolved
    spec, private = resolved.spec, resolved.spec.data.private
    yield f"# {spec.name}, trial {trial.id}"
    yield ""
    yield f"An image classifier ({model.config.label}) of {model.classes} identities, as midre trained and attacked it."
    yield f"Sweep {resolved.sweep}, training seed {trial.plan.trial.seed}."
    yield "\n## Data\n"
    size = f"{private.image_size} x {private.image_size} pixels, {private.channels} channels"
    yield f"Private images of kind `{private.kind}`, {size}; SHA-256 {resolved.private_digest[:16]}."
    yield "\n## Defense\n"
    yield from _defenses(trial)
    yield "\n## Accuracy\n"
    for name, estimate in trial.utility.items():
        yield f"- {in_words(name)}: {with_interval(name, estimate)}, on {estimate['n']} held-out images"
    yield "\n## What was attacked, and how it held\n"
    for attack in trial.attacks.values():
        yield f"- {attack.label} ({attack.protocol['access']}, {attack.queries:,} queries)"
        for name, estimate in attack.estimates.items():
            scale = [result.scale(trial, f"{attack.label}.{name}")]
            yield f"  - {in_words(name)}: {with_scale(with_interval(name, estimate), name, scale)}"
    yield "\nBrackets hold 95 % intervals. Parentheses hold what images of no attack reach (samples of its prior,"
    yield "public images) and what real images of the people do. Attacks that were not tried may get more out of it."
    yield "\n## Use\n"
    if without_onnx is None:
        shape = f"(batch, {private.channels}, {private.image_size}, {private.image_size})"
        yield f"`{ONNX}` reads `images` {shape}, float32 in [0, 1], normalises them itself, and gives `logits`"
        yield f"(batch, {model.classes}), in the order of `{CLASSES}`. `{WEIGHTS}` holds the network alone.\n"
    yield "Images in [0, 1] are normalised by the mean and standard deviation below. To attack it again with midre:"
    yield f"\n```yaml\n{yaml.safe_dump({'target': _target(model)}, sort_keys=False, width=100)}```"


def _defenses(trial: TrialResult) -> Iterator[str]:
    """The defenses with all their settings."""
    config = trial.plan.job(trial.plan.keys.target).config
    defenses = config.get("defenses", [])
    if not defenses:
        yield "None." if config["kind"] == "train_classifier" else "Not known: it was trained elsewhere."
    for defense in defenses:
        settings = ", ".join(f"{name}: {value}" for name, value in defense.items() if name != "kind")
        yield f"- {defense['kind']} ({settings})"


def _target(model: Classifier) -> dict[str, object]:
    """The section of a spec that reads these files."""
    settings = model.config.model_dump(mode="json", exclude_defaults=True, exclude={"weights", "weights_digest"})
    mean, std = (values.flatten().tolist() for values in (model.mean, model.std))
    model_settings = {"kind": model.config.kind, **settings}
    return {"model": model_settings, "checkpoint": WEIGHTS, "classes": CLASSES, "mean": mean, "std": std}
