"""Where reconstructions lie in feature space, as pictures: beside private images and what erasing leaves of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from orchestrator.reports.figures import BLUE, GREY, VERMILION
from orchestrator.reports.tables import attack_label, short_names
from orchestrator.results.sweep_result import SweepResult, TrialResult
from orchestrator.store.artifacts import ArtifactStore
from workloads.metrics.geometry import convex_hull

METRIC = "feature_space"
MARKS = {
    "erased": ("^", 12, GREY, "private images, erased"),
    "private": ("*", 34, BLUE, "private images"),
    "reconstructed": ("x", 30, VERMILION, "reconstructions"),
}
"""By what the artifacts call the points, the many below the few; the marks are the paper's."""

Panel = Mapping[str, Any]


def feature_spaces(result: SweepResult, store: ArtifactStore) -> Iterator[tuple[str, Figure]]:
    """Captions and figures of both ends of the trade, for each attack whose artifacts hold the points."""
    names = short_names(result)
    for attack in result.resolved.spec.attacks:
        label = attack.label
        for trial in _extremes(result, label):
            for space, panels in _stored(trial, store, label):
                yield f"{attack_label(label, trial, names)}; features: {space}", feature_space_figure(panels)


def _extremes(result: SweepResult, label: str) -> list[TrialResult]:
    """The first trial without a defense, and of those with one, the one whose attack accuracy is lowest."""
    attacked = [trial for trial in result.finished if label in trial.attacks]
    name = f"{label}.attack_accuracy"
    defended = [trial for trial in attacked if trial.plan.defenses and name in trial.estimates()]
    undefended = [trial for trial in attacked if not trial.plan.defenses]
    return undefended[:1] + sorted(defended, key=lambda trial: trial.value(name))[:1]


def _stored(trial: TrialResult, store: ArtifactStore, label: str) -> Iterator[tuple[str, Sequence[Panel]]]:
    """The network whose features they are and the panels, for each that the artifact has."""
    key = trial.plan.keys.attacks[label].first.judged[0]
    manifest = store.manifest(key)
    for file in sorted(manifest.files) if manifest else ():
        if file.startswith(f"{METRIC}_"):
            space = file.removeprefix(f"{METRIC}_").removesuffix(".json")
            yield space, store.read_json(key, file)


def feature_space_figure(panels: Sequence[Panel]) -> Figure:
    """One panel an identity: its points of each kind with their convex hulls."""
    figure = Figure(figsize=(3.3 * len(panels), 3.9), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    plots = figure.subplots(1, len(panels), squeeze=False)[0]
    for plot, panel in zip(plots, panels, strict=True):
        _draw(plot, panel)
    handles, labels = plots[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(MARKS), frameon=False, fontsize=10)
    return figure


def _draw(plot: Axes, panel: Panel) -> None:
    for kind, (marker, size, colour, label) in MARKS.items():
        xs, ys = zip(*panel[kind], strict=True)
        hull = convex_hull(list(zip(xs, ys, strict=True)))
        plot.fill(*zip(*hull, strict=True), facecolor=(colour, 0.12), edgecolor=colour, linewidth=1.0)
        plot.scatter(xs, ys, s=size, marker=marker, color=colour, alpha=0.8, linewidths=1.0, label=label)
    plot.set_title(panel["identity"], fontsize=11)
    plot.set_aspect("equal", adjustable="datalim")
    plot.tick_params(labelsize=9)
    plot.spines[["top", "right"]].set_visible(False)
