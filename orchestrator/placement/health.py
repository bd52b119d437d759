"""What of this machine a run depends on: Python, packages and their pairs, GPUs, memory and disks, each judged."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from orchestrator.placement.machine import LocalGpus, devices_in_words, local_gpus, this_machine
from workloads.core.nvidia_driver import installed_gpus

GIB = 2**30
LEAST_MEMORY_GB = 2.0
"""A worker with torch takes a quarter of it before it has any data."""
LEAST_SHARED_GB = 0.5
"""Containers have 64 MiB unless told otherwise; data sets that jobs share lie there."""
LEAST_TEMPORARY_GB = 1.0


class Verdict(StrEnum):
    """How a thing is."""

    ok = "ok"
    warning = "warning"
    broken = "broken"
    """A run would fail."""


@dataclass(frozen=True)
class Finding:
    """One thing that a run depends on."""

    subject: str
    verdict: Verdict
    text: str
    """What was seen, and the way out where that is not well."""

    def shape(self) -> dict[str, str]:
        """The finding for programs."""
        return {"subject": self.subject, "status": self.verdict.value, "text": self.text}


def machine_findings() -> Iterator[Finding]:
    """Everything that can be judged here without a spec."""
    yield python_finding("midre")
    yield from package_findings("midre")
    yield gpu_finding(installed_gpus(), local_gpus())
    yield memory_finding(_available_gb())
    yield shared_memory_finding(Path("/dev/shm"))
    yield _space("temporary files", Path(tempfile.gettempdir()), LEAST_TEMPORARY_GB, "set TMPDIR to a larger disk")


def python_finding(package: str) -> Finding:
    """Whether this Python is one that a package takes."""
    wanted = str(distribution(package).metadata["Requires-Python"] or "")
    version = platform.python_version()
    if wanted and not Requirement(f"python{wanted}").specifier.contains(version, prereleases=True):
        return Finding(
            "Python", Verdict.broken, f"{version}, and {package} needs {wanted}: make an environment with it."
        )
    return Finding("Python", Verdict.ok, version)


def package_findings(package: str) -> Iterator[Finding]:
    """Whether the packages that a package needs are there, and go together with what they need themselves.

    torch and torchvision are such a pair: with another torch than its own, torchvision fails when it is used.
    """
    installed: list[str] = []
    well = True
    for requirement in _requirements(distribution(package)):
        problem = _problem(requirement)
        if problem:
            well = False
            yield Finding("packages", Verdict.broken, f"{package} needs {requirement}, {problem}.")
            continue
        needed = distribution(requirement.name)
        installed.append(f"{requirement.name} {needed.version}")
        for further in _requirements(needed):
            if problem := _problem(further):
                well = False
                name = f"{requirement.name} {needed.version}"
                yield Finding("packages", Verdict.warning, f"{name} needs {further}, {problem}: install the pair anew.")
    if well:
        yield Finding("packages", Verdict.ok, ", ".join(installed))


def gpu_finding(installed: int, local: LocalGpus) -> Finding:
    """Whether torch can compute on the GPUs that the driver lists."""
    if local.gpus:
        return Finding("GPUs", Verdict.ok, devices_in_words([this_machine()]))
    if installed:
        text = f"{installed} installed that torch cannot use, so that jobs run on CPUs: {local.without_cuda}."
        return Finding("GPUs", Verdict.warning, text)
    return Finding("GPUs", Verdict.ok, "none here; jobs run on CPUs")


def memory_finding(available_gb: float) -> Finding:
    """Whether there is main memory for more than one worker."""
    text = f"{available_gb:.1f} GiB of main memory are free"
    if available_gb < LEAST_MEMORY_GB:
        return Finding("memory", Verdict.warning, f"{text}: jobs may be ended for want of it; stop other programs.")
    return Finding("memory", Verdict.ok, text)


def shared_memory_finding(folder: Path) -> Finding:
    """Whether data sets have room where all processes of a machine see them."""
    return _space("shared memory", folder, LEAST_SHARED_GB, "give the container more, as by `--shm-size 4g`")


def _space(subject: str, folder: Path, least_gb: float, way_out: str) -> Finding:
    try:
        free_gb = shutil.disk_usage(folder).free / GIB
    except OSError as error:
        return Finding(subject, Verdict.warning, f"{folder}: {error.strerror}: {way_out}.")
    text = f"{free_gb:.1f} GiB are free in {folder}"
    if free_gb < least_gb:
        return Finding(subject, Verdict.warning, f"{text}: {way_out}.")
    return Finding(subject, Verdict.ok, text)


def _requirements(package: Distribution) -> Iterator[Requirement]:
    """What a package needs on this machine, without its extras."""
    for text in package.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def _problem(requirement: Requirement) -> str:
    """Why a requirement is not met; empty if it is."""
    try:
        version = distribution(requirement.name).version
    except PackageNotFoundError:
        return "which is not installed"
    return "" if requirement.specifier.contains(version, prereleases=True) else f"and {version} is installed"


def _available_gb() -> float:
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 / GIB
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") / GIB
