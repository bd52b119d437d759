"""What can be wrong with a well-formed spec: fields that do not fit together, or do not fit the data or the machine."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from pydantic import ValidationError

from orchestrator.planning.graph import Request
from orchestrator.planning.placement import Node, why_not
from orchestrator.search.samplers.base import SAMPLERS
from orchestrator.spec.apply import APPLICABLE, NoSuchField, applied, field_at
from orchestrator.spec.messages import did_you_mean, message_of
from orchestrator.spec.model import Spec
from workloads.core.config import FrozenConfig, Location, Preset
from workloads.core.errors import MidreError
from workloads.core.randomness import generator
from workloads.datasets.base import DATASETS, held_out_of
from workloads.defenses.base import DEFENSES, TrainingFacts
from workloads.inversion.attack import ATTACKS, AttackConfig
from workloads.metrics.base import METRICS, AttackMetric, ClassifierMetric
from workloads.models.base import Classifier
from workloads.priors.base import PRIORS
from workloads.training.classifiers import Architecture

NETWORKS = frozenset({"target", "evaluation", "prior", "defenses", "attacks", "metrics"})
"""Sections that decide which networks are built."""
CONTAINERS = frozenset({"parquet", "image_folder"})
"""Data sets that hold whatever was put into them, so that two of different kinds may hold the same people."""
WHOLES = 1000
"""Points of a search that are checked as wholes."""
Found = tuple[str, str]
"""Dotted path of the field at fault, and the message."""


def problems_in(spec: Spec, nodes: Sequence[Node] | None) -> list[Found]:
    """All that is wrong with a well-formed spec; placement is left out where `nodes` is None."""
    found = list(_data(spec))
    if not found:
        search = [*_search(spec)] or [*_combinations(spec)]
        found += [*_split(spec), *search, *_networks(spec), *_measures(spec), *_objectives(spec)]
    if nodes is not None:
        found += _resources(spec, nodes)
    return found


def numbers(spec: Spec, classes: int) -> list[str]:
    """Names of all numbers a trial of this spec yields."""
    metrics = [METRICS.build(metric) for metric in spec.metrics]
    plain = [name for metric in metrics if isinstance(metric, ClassifierMetric) for name in metric.names(classes)]
    judged = [name for metric in metrics if isinstance(metric, AttackMetric) for name in metric.names(classes)]
    labels = [attack.label for attack in spec.attacks]
    return plain + [f"{label}.{name}" for label in labels for name in judged]


def _data(spec: Spec) -> Iterator[Found]:
    names: dict[str, tuple[str, ...]] = {}
    for role in ("private", "public"):
        try:
            names[role] = DATASETS.build(getattr(spec.data, role)).names()
        except MidreError as error:
            field, separator, message = str(error).partition(": ")
            known = separator and field in type(getattr(spec.data, role)).model_fields
            yield (f"data.{role}.{field}", message) if known else (f"data.{role}", str(error))
    if len(names) < 2:
        return
    shared = sorted(set(names["private"]) & set(names["public"]))
    kinds = {spec.data.private.kind, spec.data.public.kind}
    if shared and (len(kinds) == 1 or kinds <= CONTAINERS):
        yield (
            "data.public.identities",
            f"{', '.join(map(repr, shared[:3]))}{f' and {len(shared) - 3} more' * (len(shared) > 3)} "
            f"{'is' if len(shared) == 1 else 'are'} private too: "
            "what the attacker has must not hold what must not leak.",
        )
    if len(names["private"]) < 2:
        yield "data.private.identities", f"has {len(names['private'])} identity: a classifier needs at least 2."
    for field in ("image_size", "channels"):
        private, public = (getattr(data, field) for data in (spec.data.private, spec.data.public))
        if private != public:
            yield f"data.public.{field}", f"is {public} but data.private.{field} is {private}: make them equal."


def _split(spec: Spec) -> Iterator[Found]:
    private: Any = spec.data.private
    if spec.data.split.rule == "published" and not DATASETS.build(private).publishes_split():
        way_out = ", or name the column of a table that has one as part_column" * (private.kind == "parquet")
        yield "data.split.rule", f"{private.kind} publishes no split here: set the rule to fraction{way_out}."
    if spec.data.split.rule == "fraction":
        alone = [name for name, images in DATASETS.build(private).sizes().items() if images < 2]
        if alone:
            others = f" and {len(alone) - 1} more" * (len(alone) > 1)
            yield (
                "data.private.identities",
                f"{alone[0]!r}{others} have a single image: one has to train and another to measure, name the rest.",
            )


def _networks(spec: Spec, sections: Collection[str] = NETWORKS) -> Iterator[Found]:
    """Components of these sections that refuse their images or each other, found by building them without memory."""
    data: Any = spec.data.private
    classes = len(DATASETS.build(data).names())
    shape = {"channels": data.channels, "image_size": data.image_size}
    target = Architecture(model=spec.target.model, classes=classes, **shape)
    builds: list[tuple[str, Callable[[], object]]] = [
        ("evaluation.model", _weightless(target.model_copy(update={"model": spec.evaluation.model}).build)),
    ]
    if spec.prior is not None:
        builds.append(("prior", _weightless(lambda: PRIORS.build(spec.prior, classes=classes, **shape))))  # type: ignore[arg-type]
    refused = _refusal(_weightless(target.build))
    if refused:
        yield "target.model", refused
    elif not {"target", "defenses"}.isdisjoint(sections):
        builds += _defenses(spec, target)
    builds += [*_attacks(spec, target), *_metrics(spec, target)]
    for field, build in builds:
        if field.partition(".")[0] in sections and (message := _refusal(build)):
            yield field, message


def _defenses(spec: Spec, target: Architecture) -> Iterator[tuple[str, Callable[[], object]]]:
    """What each defense has to accept: the images, the other defenses, the architecture."""
    facts = TrainingFacts(
        images=1,
        image_shape=(target.channels, target.input_size, target.input_size),
        channel_mean=torch.zeros(target.channels),
        generator=lambda *purpose: generator("validate", *purpose),
        classes=target.classes,
    )
    for index, defense in enumerate(spec.defenses):
        others = spec.defenses[:index] + spec.defenses[index + 1 :]
        field = f"defenses.{index}"
        yield field, functools.partial(DEFENSES.build, defense, facts=facts)
        yield field, functools.partial(defense.check_combination, others)
        yield field, _weightless(target.model_copy(update={"defenses": (defense,)}).build)


def _attacks(spec: Spec, target: Architecture) -> Iterator[tuple[str, Callable[[], object]]]:
    """What each attack has to accept: its prior, its surrogates, the number of classes, the target model."""
    shape = {"channels": target.channels, "image_size": target.image_size, "classes": target.classes}

    @functools.cache
    def target_model() -> Classifier | None:
        """None where the model or its defenses are at fault, which they say themselves."""
        try:
            return target.model_copy(update={"defenses": spec.defenses}).build()
        except (MidreError, RuntimeError):
            return None

    def build(member: AttackConfig) -> None:
        prior = None if member.prior is None else PRIORS.build(member.prior, **shape)
        attack = ATTACKS.build(member)
        attack.check(prior=prior, classes=target.classes)
        if (model := target_model()) is not None:
            attack.check_target(model)
        for surrogate in member.surrogates:
            target.model_copy(update={"model": surrogate.model}).build()

    shared = spec.prior
    shared_is_refused = shared is not None and _refusal(_weightless(lambda: PRIORS.build(shared, **shape)))
    for index, attack in enumerate(spec.attacks):
        members = attack.with_prior(spec.prior).members()
        if len(members) > 1:
            check = ATTACKS.build(attack).check
            yield f"attacks.{index}", functools.partial(check, prior=None, classes=target.classes)
        for member in members:
            if shared_is_refused and member.prior == shared:
                continue  # said once, where the prior stands
            yield f"attacks.{index}", _weightless(functools.partial(build, member))


def _metrics(spec: Spec, target: Architecture) -> Iterator[tuple[str, Callable[[], object]]]:
    """Networks of metrics' own, which look at the same images."""
    for index, metric in enumerate(METRICS.build(own) for own in spec.metrics):
        for network in metric.networks if isinstance(metric, AttackMetric) else ():
            yield f"metrics.{index}", _weightless(target.model_copy(update={"model": network}).build)


def _weightless(build: Callable[[], object]) -> Callable[[], object]:
    """The same without memory for weights."""

    def on_meta() -> object:
        with torch.device("meta"):
            return build()

    return on_meta


def _refusal(build: Callable[[], object]) -> str | None:
    """Why something cannot be built, or None where it can."""
    try:
        build()
    except MidreError as error:
        return str(error)
    except RuntimeError as error:  # torch's, of sizes beyond any memory
        return f"cannot be built: {str(error).partition(chr(10))[0]}."
    return None


def _search(spec: Spec) -> Iterator[Found]:
    """Paths that name no field, and values their fields refuse."""
    for path, distribution in spec.search.space.items():
        where = f"search.space.{path}"
        try:
            field_at(spec.plain(), path)
        except NoSuchField as error:
            yield where, f"names no field: {error}"
            continue
        if path.partition(".")[0] not in APPLICABLE:
            yield where, f"cannot be searched: only {', '.join(sorted(APPLICABLE))} can."
            continue
        if (why := _is_fixed(spec, path)) is not None:
            yield where, f"cannot be searched: {why}"
            continue
        outer = next((other for other in spec.search.space if path.startswith(f"{other}.")), None)
        if outer is not None:
            yield where, f"cannot be searched beside {outer}, which replaces it: leave one of them out."
            continue
        if _is_preset(spec, path):
            whole = path.rpartition(".")[0]
            yield where, f"cannot be searched: it fills in other fields as the spec is read. Search {whole}, whole."
            continue
        for value in distribution.extremes():
            yield from ((where, message) for message in _refusals(spec, path, value))


def _combinations(spec: Spec) -> Iterator[Found]:
    """Values that are valid each by itself and not together, where it is known which will meet."""
    search = spec.search
    if search.sampler.learns:
        return
    sampler = SAMPLERS.build(search.sampler, space=search.space, objectives=search.objectives)
    for index in range(WHOLES):
        params = sampler.ask(index)
        if params is None:
            return
        try:
            applied(spec, params)
        except ValidationError as error:
            values = ", ".join(f"{path} {value!r}" for path, value in params.items())
            yield "search.space", f"{values} do not go together: {message_of(error.errors()[0], Spec)}"
            return


def _is_fixed(spec: Spec, path: str) -> str | None:
    """Why a field in a section that can be searched is the same for all trials, or None where it need not be."""
    section, *inner = path.split(".")
    if section == "attacks" and inner[-1] == "name":
        return "results are told apart by it."
    if section != "data":
        return None
    if len(inner) < 2 and inner[:1] != ["split"]:
        return "images are read once for all trials: search a field of them, as data.private.max_per_identity."
    field = type(getattr(spec.data, inner[0])).model_fields.get(inner[1]) if len(inner) > 1 else None
    if inner[-1] == "kind" or (field is not None and any(mark is Location for mark in field.metadata)):
        return "it says which images there are, and these are read once for all trials."
    return None


def _is_preset(spec: Spec, path: str) -> bool:
    *parents, last = path.split(".")
    owner: Any = spec
    for part in parents:
        owner = owner[int(part)] if isinstance(owner, tuple) else getattr(owner, part)
    field = type(owner).model_fields.get(last) if isinstance(owner, FrozenConfig) else None
    return field is not None and any(isinstance(mark, Preset) for mark in field.metadata)


def _refusals(spec: Spec, path: str, value: Any) -> Iterator[str]:
    try:
        point = applied(spec, {path: value})
    except ValidationError as error:
        yield f"the value {value!r} is refused: {message_of(error.errors()[0], Spec)}"
        return
    section = path.partition(".")[0]
    if section == "data":
        yield from (f"the value {value!r} is refused: {field}: {why}" for field, why in [*_data(point), *_split(point)])
    if section in NETWORKS and not _refusals_of(spec, section):
        yield from (f"the value {value!r} is refused: {why}" for why in _refusals_of(point, section))


def _refusals_of(spec: Spec, section: str) -> list[str]:
    """Why components of a section are refused; a target model takes the defenses with it."""
    sections = {section, "defenses"} if section == "target" else {section}
    return [message for _, message in _networks(spec, sections)]


def _measures(spec: Spec) -> Iterator[Found]:
    """Metrics that an attack, or the data, gives too little to."""
    private = DATASETS.build(spec.data.private)
    traits, trained_on = private.trait_table(), {}
    if spec.data.split.rule == "fraction":  # else what is trained on is known when images are read
        sizes = private.sizes().items()
        trained_on = {name: images - held_out_of(images, spec.data.split) for name, images in sizes}
    for index, metric in enumerate(METRICS.build(own) for own in spec.metrics):
        if not isinstance(metric, AttackMetric):
            continue
        if metric.needs_traits and not traits:
            rule = f"needs data whose traits are known, {spec.data.private.kind} has none"
            yield f"metrics.{index}", f"{rule}: take avatars or leave the metric out."
        for attack in spec.attacks:
            yield from ((f"metrics.{index}", message) for message in _lacks(metric, attack, trained_on))


def _lacks(metric: AttackMetric, attack: Any, trained_on: Mapping[str, int]) -> Iterator[str]:
    """What a metric has too few of where it judges one attack; training images are of each identity, or not known."""
    needed = metric.fewest_reconstructions
    if attack.keep < needed:
        rule = f"needs {needed} reconstructions of each identity, but {attack.label} keeps {attack.keep}"
        yield f"{rule}: raise its keep."
    needed = metric.fewest_identities
    if (attack.identities or needed) < needed:
        rule = f"needs {needed} identities to tell apart, but {attack.label} attacks {attack.identities}"
        yield f"{rule}: attack more."
    needed = metric.fewest_private_images
    attacked = list(trained_on)[: attack.identities]
    fewest = min(attacked, key=lambda name: trained_on[name], default=None)
    if fewest is not None and trained_on[fewest] < needed:
        rule = f"needs {needed} training images of each identity, but {fewest!r} has {trained_on[fewest]}"
        yield f"{rule}: lower its k, or leave out who has few."


def _objectives(spec: Spec) -> Iterator[Found]:
    kinds = [METRICS.class_of(metric) for metric in spec.metrics]
    for wanted, what in ((ClassifierMetric, "natural_accuracy"), (AttackMetric, "attack_accuracy")):
        if not any(issubclass(kind, wanted) for kind in kinds):
            yield "metrics", f"has none like {what}: every trial is measured on both sides of the trade, add it."
            return
    known = numbers(spec, len(DATASETS.build(spec.data.private).names()))
    for index, objective in enumerate(spec.search.objectives):
        if objective.metric not in known:
            yield (
                f"search.objectives.{index}.metric",
                f"nothing computes {objective.metric!r}.{did_you_mean(objective.metric, known)} "
                f"Available: {', '.join(known)}.",
            )


def _resources(spec: Spec, nodes: Sequence[Node]) -> Iterator[Found]:
    for kind in type(spec.resources).model_fields:
        request: Request = getattr(spec.resources, kind).request()
        for resource, message in why_not(request, nodes):
            yield f"resources.{kind}.{resource}", message
