"""The frontier and the heat maps as pictures."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from orchestrator.reports.tables import (
    axes,
    frontier_points,
    in_words,
    is_fraction,
    number,
    point_label,
    short_names,
    value_text,
)
from orchestrator.reports.verdicts import chance_of
from orchestrator.results.paired_points import mean_interval
from orchestrator.results.sweep_result import PointResult, SweepResult
from orchestrator.search.space import Choice, Distribution, Integer, Objective

BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#767676"  # of Okabe and Ito, safe for the colour-blind
NOT_RUN = (0.93, 0.93, 0.93, 1.0)
MOST_LABELLED = 14
"""With more points than this, only those on the frontier and the baseline are labelled."""
MOST_CELLS = 12
"""Values of a field beyond which a heat map is no longer readable."""


def frontier_figure(result: SweepResult) -> Figure:
    """The trade between the two axes: one mark per point, the points of the frontier connected.

    A mark is the mean over training seeds; its bars run between the means of the trials' interval ends, and small
    dots are the single seeds.
    """
    x, y = axes(result)
    figure = Figure(figsize=(9.0, 6.2), dpi=150, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    plot = figure.add_subplot()
    points, best = _with(result.points(), x, y), frontier_points(result)
    _label_axes(plot, x, y)
    _chance(plot, result, y.metric)
    _floor_and_ceiling(plot, result, y.metric)
    _connect(plot, [point for point in points if point.point in best], x, y)
    for point in points:
        _mark(plot, point, x, y, is_best=point.point in best)
    if not points:
        plot.text(0.5, 0.5, "no point is finished", transform=plot.transAxes, ha="center", fontsize=13)
    plot.margins(0.12)
    _legend(plot)
    canvas.draw()
    figure.set_layout_engine("none")
    _label_points(plot, canvas, result, _labelled(points, best))
    return figure


def _with(points: Sequence[PointResult], *objectives: Objective) -> list[PointResult]:
    names = {objective.metric for objective in objectives}
    return [point for point in points if all(names <= set(trial.estimates()) for trial in point.trials)]


def _scale(name: str) -> float:
    return 100.0 if is_fraction(name) else 1.0


def _at(point: PointResult, x: Objective, y: Objective) -> tuple[float, float]:
    return point.mean(x.metric) * _scale(x.metric), point.mean(y.metric) * _scale(y.metric)


def _label_axes(plot: Axes, x: Objective, y: Objective) -> None:
    texts = []
    for objective in (x, y):
        unit = ", %" if is_fraction(objective.metric) else ""
        texts.append(
            f"{in_words(objective.metric)}{unit} ({'higher' if objective.goal == 'max' else 'lower'} is better)"
        )
    plot.set_xlabel(texts[0], fontsize=12)
    plot.set_ylabel(texts[1], fontsize=12)
    plot.tick_params(labelsize=11)
    plot.grid(color="#e4e4e4", linewidth=0.7)
    plot.set_axisbelow(True)
    plot.spines[["top", "right"]].set_visible(False)


def _chance(plot: Axes, result: SweepResult, metric: str) -> None:
    """Draw what guessing would reach, where the spec says how many identities there are."""
    chance = chance_of(result, metric)
    if chance is not None:
        plot.axhline(100 * chance, color=GREY, linestyle=(0, (2, 3)), label=f"chance, 1 in {round(1 / chance)}")


def _floor_and_ceiling(plot: Axes, result: SweepResult, metric: str) -> None:
    """Draw what the attack has to beat without a defense, and what real images reach."""
    scales = [result.scale(trial, metric) for trial in result.finished if trial.plan.trial.baseline]
    for end, label in (("floor", "what the attack has to beat"), ("ceiling", "real images")):
        values = [value for scale in scales if (value := getattr(scale, end)) is not None]
        if values:
            height = statistics.fmean(values) * _scale(metric)
            plot.axhline(height, color=GREY, linestyle="--" if end == "floor" else "-.", linewidth=1.0, label=label)


def _connect(plot: Axes, best: Sequence[PointResult], x: Objective, y: Objective) -> None:
    if len(best) > 1:
        places = sorted(_at(point, x, y) for point in best)
        plot.plot(*zip(*places, strict=True), color=BLUE, linewidth=1.2, alpha=0.7, zorder=2)


def _mark(plot: Axes, point: PointResult, x: Objective, y: Objective, *, is_best: bool) -> None:
    colour = VERMILION if point.baseline else BLUE if is_best else GREY
    kind = "no defense" if point.baseline else "on the frontier" if is_best else "beaten by another point"
    if len(point.trials) > 1:
        seeds = [[trial.value(axis.metric) * _scale(axis.metric) for trial in point.trials] for axis in (x, y)]
        plot.scatter(
            seeds[0], seeds[1], s=9, color=colour, alpha=0.75, zorder=3, linewidths=0, label="a single training seed"
        )
    plot.errorbar(
        *_at(point, x, y),
        xerr=_bars(point, x.metric),
        yerr=_bars(point, y.metric),
        fmt="D" if point.baseline else "o" if is_best else "s",
        markersize=8 if is_best or point.baseline else 6,
        color=colour,
        ecolor=(colour, 0.45),
        elinewidth=1.0,
        zorder=4,
        label=kind,
    )


def _bars(point: PointResult, name: str) -> list[list[float]]:
    mean, (low, high) = point.mean(name), mean_interval(point, name)
    return [[max(mean - low, 0.0) * _scale(name)], [max(high - mean, 0.0) * _scale(name)]]


def _legend(plot: Axes) -> None:
    """Each kind of mark once, under the plot where it hides nothing."""
    handles, labels = plot.get_legend_handles_labels()
    once = dict(zip(reversed(labels), reversed(handles), strict=True))
    if once:
        figure = plot.get_figure()
        assert isinstance(figure, Figure)
        kinds = list(reversed(once))
        handles = [once[kind] for kind in kinds]
        figure.legend(handles, kinds, loc="outside lower center", ncols=3, frameon=False, fontsize=10)


def _labelled(points: Sequence[PointResult], best: frozenset[int]) -> list[PointResult]:
    if len(points) <= MOST_LABELLED:
        return list(points)
    return [point for point in points if point.baseline or point.point in best]


def _label_points(plot: Axes, canvas: FigureCanvasAgg, result: SweepResult, points: Sequence[PointResult]) -> None:
    """Label points beside their marks, each label where it covers no other and no mark, with a line to its mark."""
    x, y = axes(result)
    names = short_names(result)
    places = [_at(point, x, y) for point in points]
    taken = [_around(*plot.transData.transform(place)) for place in places]
    for point, place in zip(points, places, strict=True):
        taken.append(_place_label(plot, canvas, point_label(point, names), place, taken))


def _place_label(
    plot: Axes, canvas: FigureCanvasAgg, text: str, place: tuple[float, float], taken: Sequence[Bbox]
) -> Bbox:
    """Put a label at the first free spot, or at the last one tried. Returns its box in pixels."""
    line = {"arrowstyle": "-", "color": "#888888", "linewidth": 0.7, "shrinkB": 4}
    label = plot.annotate(
        text, place, xytext=(0, 0), textcoords="offset points", fontsize=9.5, zorder=6, arrowprops=line
    )
    label.set_path_effects([withStroke(linewidth=3, foreground="white")])
    renderer = canvas.get_renderer()
    bounds = plot.get_window_extent(renderer)
    for dx, dy in _spots():
        label.set_position((dx, dy))
        label.set_horizontalalignment("left" if dx > 0 else "right" if dx < 0 else "center")
        label.set_verticalalignment("bottom" if dy > 0 else "top" if dy < 0 else "center")
        label.update_positions(renderer)
        box = Bbox.from_bounds(*_text_bounds(label, renderer))
        inside = bounds.x0 <= box.x0 and box.x1 <= bounds.x1 and bounds.y0 <= box.y0 and box.y1 <= bounds.y1
        if inside and not any(box.overlaps(other) for other in taken):
            break
    return box


def _text_bounds(label: Annotation, renderer: RendererBase) -> tuple[float, float, float, float]:
    """The text alone: an annotation's own extent holds its arrow as well."""
    bounds: tuple[float, float, float, float] = Text.get_window_extent(label, renderer).padded(2).bounds
    return bounds


def _spots() -> Iterator[tuple[float, float]]:
    """Offsets in points, nearest first."""
    sides = ((1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))
    for distance in (8, 18, 30, 44, 60, 80, 104, 132):
        yield from ((dx * distance, dy * distance) for dx, dy in sides)
        yield from ((dx * 12, dy * distance) for dx, dy in itertools.product((1, -1), repeat=2))


def _around(x: float, y: float) -> Bbox:
    """The pixels of a mark."""
    return Bbox.from_bounds(x - 9, y - 9, 18, 18)


def heat_maps(result: SweepResult) -> Figure | None:
    """Both axes over the two searched fields; None unless exactly two are searched and both have few values."""
    fields = {path: _values(distribution) for path, distribution in result.resolved.spec.search.space.items()}
    points = [point for point in _with(result.points("search"), *axes(result)) if not point.baseline]
    if len(fields) != 2 or not points or any(not 1 < len(values) <= MOST_CELLS for values in fields.values()):
        return None
    rows, columns = fields.values()
    size = (2 * (1.9 + max(0.85 * len(columns), 2.4)), 1.7 + max(0.6 * len(rows), 1.4))
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for plot, objective in zip(figure.subplots(1, 2), axes(result), strict=True):
        _heat_map(plot, result, points, objective, fields)
    return figure


def _values(distribution: Distribution) -> list[Any]:
    """The values a field can take; none if there are too many to show."""
    if isinstance(distribution, Choice):
        return list(distribution.values)
    if isinstance(distribution, Integer) and distribution.high - distribution.low < MOST_CELLS:
        return list(range(distribution.low, distribution.high + 1))
    return []


def _heat_map(
    plot: Axes, result: SweepResult, points: Sequence[PointResult], objective: Objective, fields: dict[str, list[Any]]
) -> None:
    (down, rows), (across, columns) = fields.items()
    name = objective.metric
    cells = [[_cell(points, name, {down: row, across: column}) for column in columns] for row in rows]
    seen = [value for row in cells for value in row if value is not None]
    low, span = min(seen), (max(seen) - min(seen)) or 1.0
    scale = colormaps["cividis" if objective.goal == "max" else "cividis_r"]
    colours = [[NOT_RUN if value is None else scale((value - low) / span) for value in row] for row in cells]
    plot.imshow(colours, aspect="auto")
    for row, column in itertools.product(range(len(rows)), range(len(columns))):
        value, colour = cells[row][column], colours[row][column]
        text = "not run" if value is None else number(name, value)
        plot.text(column, row, text, ha="center", va="center", fontsize=11, color=_readable_on(colour))
    _label_heat_map(plot, result, objective, fields)


def _label_heat_map(plot: Axes, result: SweepResult, objective: Objective, fields: dict[str, list[Any]]) -> None:
    (down, rows), (across, columns) = fields.items()
    names, name = short_names(result), objective.metric
    baseline = [point for point in result.points("search") if point.baseline]
    beside = f"; no defense: {number(name, baseline[0].mean(name))}" if baseline else ""
    goal = "higher" if objective.goal == "max" else "lower"
    plot.set_title(f"{in_words(name)}\n{goal} is better, and yellower{beside}", fontsize=11)
    plot.set_xticks(range(len(columns)), [value_text(value) for value in columns], fontsize=11)
    plot.set_yticks(range(len(rows)), [value_text(value) for value in rows], fontsize=11)
    plot.set_xlabel(names.get(across, across), fontsize=11)
    plot.set_ylabel(names.get(down, down), fontsize=11)


def _cell(points: Sequence[PointResult], name: str, params: dict[str, Any]) -> float | None:
    """Mean over the points with these values; None where no finished point has them."""
    means = [point.mean(name) for point in points if _key(dict(point.params)) == _key(params)]
    return statistics.fmean(means) if means else None


def _key(params: dict[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)


def _readable_on(colour: tuple[float, ...]) -> str:
    red, green, blue = colour[:3]
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
