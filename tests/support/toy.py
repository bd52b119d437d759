"""A toy sweep: real digits, tiny networks, seconds in all."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from orchestrator.spec.loading import load_spec, resolve
from orchestrator.store.ledger import read_events
from orchestrator.sweep import Sweep

TOY: dict[str, Any] = {
    "name": "toy",
    "data": {
        "private": {"kind": "digits", "identities": ["0", "1"], "image_size": 32, "max_per_identity": 20},
        "public": {"kind": "digits", "identities": ["2", "3"], "image_size": 32, "max_per_identity": 20},
    },
    "target": {
        "model": {"kind": "small_cnn", "width": 2, "stages": 2},
        "training": {"epochs": 2, "batch_size": 8},
    },
    "defenses": [{"kind": "random_erasing"}],
    "evaluation": {
        "model": {"kind": "small_cnn", "width": 3, "stages": 2},
        "training": {"epochs": 2, "batch_size": 8},
        "seeds": [0],
    },
    "prior": {"kind": "wgan_gp", "width": 2, "steps": 6, "batch_size": 8, "latent_size": 8},
    "attacks": [{"kind": "gmi", "steps": 3, "restarts": 2}],
    "search": {
        "space": {"defenses.0.max_area": {"kind": "choice", "values": [0.3, 0.6]}},
        "seeds": [0],
    },
    "floors": False,
    "tracking": {"enabled": False},
}


def write_spec(folder: Path, **changes: Any) -> Path:
    """The toy spec with some sections replaced, as a file."""
    file = folder / "toy.yaml"
    file.write_text(yaml.safe_dump({**TOY, **changes}, sort_keys=False), encoding="utf-8")
    return file


def toy_sweep(folder: Path, runs: Path, **changes: Any) -> Sweep:
    spec, source = load_spec(write_spec(folder, **changes))
    return Sweep.of(resolve(spec, source, nodes=None), runs)


def numbers(sweep: Sweep) -> dict[str, dict[str, float]]:
    return {id: dict(trial.metrics) for id, trial in sweep.state().trials.items()}


def digests(sweep: Sweep) -> dict[str, str]:
    """Digest of every result file by job, without the histories, which carry clock times."""
    results = {}
    for plan in sweep.plans():
        for job in plan.jobs:
            manifest = sweep.store.verified(job.key)
            assert manifest is not None
            files = {name: file.sha256 for name, file in manifest.files.items() if name != "history.json"}
            results[job.key] = json.dumps(files, sort_keys=True)
    return results


def finished_jobs(sweep: Sweep) -> Counter[str]:
    return Counter(event["key"] for event in read_events(sweep.paths.ledger) if event["event"] == "job_done")
