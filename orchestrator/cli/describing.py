"""`midre describe`: what a component or a field of a spec means, takes and defaults to, and how a spec names it."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from orchestrator.cli.listing import registry_of
from orchestrator.cli.output import print_json, stdout
from orchestrator.errors import RequestError
from orchestrator.search.samplers.base import SAMPLERS
from orchestrator.spec.reference import ROOMS, Entry, Field, Reference
from workloads.core.files import write_atomically

TEMPLATE = Path(__file__).with_name("reference.html")


def describe(path: str | None, *, everything: bool, html: Path | None, as_json: bool) -> None:
    """Describe what stands at a path, or everything.

    Raises:
        RequestError: if there is nothing at the path, or the options do not say what to describe.
    """
    if (path is None) != everything:
        raise RequestError("describe: give a path, such as attacks.ppa, or --all.")
    reference = Reference()
    entries = [*reference.sections(), *reference.components()] if path is None else [reference.entry(path)]
    if html is not None:
        _write_pages(entries, reference, html)
    elif as_json:
        shapes = [_shape(entry, reference) for entry in entries]
        print_json(shapes if everything else shapes[0])
    else:
        for entry in entries:
            _print(entry, reference)


def _print(entry: Entry, reference: Reference) -> None:
    stdout.print(Text(entry.path, style="bold"))
    for line in _lines(entry):
        stdout.print(Text(line))
    if entry.fields:
        stdout.print(_table(entry.fields))
    if entry.kind is not None:
        stdout.print(Text("In a spec, with all defaults:"))
        stdout.print(Syntax(reference.snippet(entry), "yaml", background_color="default"))


def _lines(entry: Entry) -> list[str]:
    """What is said of an entry before its fields."""
    facts = _facts(entry)
    lines = [facts.get("summary", ""), entry.field.description]
    lines += [f"{name}: {facts[name]}" for name in facts if name not in ("kind", "summary") and facts[name]]
    if not entry.fields and not entry.kinds:
        lines.append(f"takes: {entry.field.type}")
        lines.append(f"default: {entry.field.default}" if entry.field.default else "")
    if entry.source and not facts:
        lines.append(f"source: {entry.source}")
    if entry.kinds:
        lines.append(f"kinds: {', '.join(entry.kinds)}")
    return [line for line in lines if line]


def _table(fields: tuple[Field, ...]) -> Table:
    table = Table("field", "takes", "default", "meaning")
    for field in fields:
        table.add_row(*(Text(text) for text in (field.name, field.type, field.default, field.description)))
    return table


def _shape(entry: Entry, reference: Reference) -> dict[str, Any]:
    """The same for programs."""
    snippet = {"snippet": reference.snippet(entry)} if entry.kind is not None else {}
    return {**dataclasses.asdict(entry), **snippet, "facts": dict(_facts(entry))}


def _facts(entry: Entry) -> Mapping[str, str]:
    """What the class of a component says of itself: summary, source, package; empty for anything else."""
    room = next((room for room, path in ROOMS.items() if entry.path == f"{path}.{entry.kind}"), None)
    if room is None:
        return {}
    registry = SAMPLERS if room == "samplers" else registry_of(room)
    return next(row for row in registry.describe() if row["kind"] == entry.kind)


def _write_pages(entries: list[Entry], reference: Reference, folder: Path) -> None:
    """Write a page for each entry, and an index by section and room."""
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["prose"] = _with_code
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    groups = {
        title: [(entry.path, f"{entry.path}.html", _lines(entry)[0]) for entry in group]
        for title, group in itertools.groupby(entries, key=_group)
    }
    write_atomically(folder / "index.html", template.render(title="midre: what a spec can say", groups=groups).encode())
    for entry in entries:
        page = template.render(
            title=entry.path,
            groups={},
            lines=_lines(entry),
            fields=entry.fields,
            snippet=reference.snippet(entry) if entry.kind is not None else "",
        )
        write_atomically(folder / f"{entry.path}.html", page.encode())
    stdout.print(f"{folder / 'index.html'}", highlight=False, soft_wrap=True)


def _group(entry: Entry) -> str:
    """The heading under which the index lists an entry."""
    if entry.kind is None:
        return "sections"
    return next(room for room, path in ROOMS.items() if entry.path == f"{path}.{entry.kind}")


def _with_code(text: str) -> Markup:
    """A text whose `names in backticks` are set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
