"""What a sweep runs, where, and what is kept of it; it imports `workloads`, never the reverse.

`sweep.py` ties the rooms together. From the ground up: `search/` (how points are chosen), `placement/` (where a job
fits) and `store/` (what is kept); `spec/` (what is asked for); `planning/` (trials and jobs that answer it);
`executors/` (how jobs are run) and `results/` (what came of them); `reports/` and `tracking/` (how it is shown);
`cli/` (the command line) and `api.py` (from Python). Begin with `sweep.py`, then `planning/plan.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.api import Run as Run
    from orchestrator.api import compare as compare
    from orchestrator.api import load_spec as load_spec
    from orchestrator.api import open_run as open_run
    from orchestrator.api import run as run
    from orchestrator.spec.model import Spec as Spec

API = ("Run", "Spec", "compare", "load_spec", "open_run", "run")
"""What `from orchestrator import ...` gives; the names are looked up when they are used, as torch is slow to import."""


def __getattr__(name: str) -> Any:
    if name not in API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from orchestrator import api

    return getattr(api, name)
