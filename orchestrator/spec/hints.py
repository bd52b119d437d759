"""Ways out of usual mistakes: names from other libraries, Python where YAML is meant, per cent where fractions are."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "points": ("n_trials", "trials", "num_trials", "num_samples", "n_points", "budget", "max_trials", "samples"),
    "epochs": ("n_epochs", "num_epochs", "max_epochs", "nb_epochs"),
    "steps": ("iterations", "iters", "n_steps", "num_steps", "max_steps", "max_iter"),
    "lr": ("learning_rate", "learningrate", "base_lr", "step_size"),
    "batch_size": ("batch", "bs", "batchsize", "train_batch_size"),
    "weight_decay": ("wd", "l2"),
    "image_size": ("size", "img_size", "resolution", "input_resolution"),
    "path": ("dir", "root", "folder", "file", "data_dir"),
    "kind": ("type", "name", "class", "_target_"),
    "probability": ("p", "prob"),
    "seeds": ("random_state", "n_seeds", "num_seeds"),
    "schedule": ("scheduler", "lr_scheduler"),
    "data": ("dataset", "datasets"),
    "target": ("model", "classifier"),
    "evaluation": ("judge", "evaluator"),
    "min": ("minimize", "minimise", "minimum"),
    "max": ("maximize", "maximise", "maximum"),
}
"""Names that other libraries give, by the name here."""
_SIMILAR = 0.6
LEAST_PER_CENT = 5
"""A number beyond a fraction is read as per cent from here on: 1.5 is rather one that is too large."""
_NONE = frozenset({"None", "none", "nan", "NaN", "nil", "undefined"})
_TUPLE = re.compile(r"\((.*)\)", re.DOTALL)


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """' Did you mean ...?' with the candidate that a word stands for elsewhere, or that is nearest to it; else nothing.

    >>> did_you_mean("n_trials", ["points", "seed"])
    " Did you mean 'points'?"
    """
    names = list(candidates)
    near = [name for name in names if word.lower() in SYNONYMS.get(name, ())]
    near = near or difflib.get_close_matches(word, names, n=1, cutoff=_SIMILAR)
    return f" Did you mean {near[0]!r}?" if near else ""


def way_out(wanted: str, value: Any) -> str:
    """How to write what was probably meant, as a sentence; empty if that is not clear.

    Args:
        wanted: pydantic's name of the rule that refused the value, such as `int_type`.
        value: what stands in the spec.
    """
    match wanted, value:
        case _, str() if value in _NONE:
            return " YAML writes none as null; or leave the field out."
        case (("tuple_type" | "list_type"), str()) if inside := _TUPLE.fullmatch(value):
            return f" In YAML: [{inside[1].rstrip(', ')}]."
        case (("tuple_type" | "list_type"), str() | int() | float()):
            return f" For a list of one: [{_yaml(value)}]."
        case (("int_type" | "int_from_float"), float()) if value.is_integer() and abs(value) < 1e15:
            return f" Write {int(value)}."
        case (("int_type" | "float_type"), str()) if _is_number(value):
            return " Leave out the quotes."
        case "bool_type", str() | int() if str(value).lower() in ("yes", "on", "1", "true", "no", "off", "0", "false"):
            return f" Write {'true' if str(value).lower() in ('yes', 'on', '1', 'true') else 'false'}."
        case "string_type", bool() | int() | float():
            return f' Put it in quotes: "{_yaml(value)}".'
    return ""


def as_fraction(value: Any, highest: float) -> str:
    """' 40 % is 0.4.' for a number that is beyond a fraction and looks like per cent; else nothing."""
    if highest == 1 and isinstance(value, (int, float)) and LEAST_PER_CENT <= value <= 100:
        return f" {value:g} % is {value / 100:g}."
    return ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
