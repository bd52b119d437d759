"""Components from other packages, which declare them as entry points of `midre.attacks`, `midre.defenses` and so on."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Iterable
from importlib.metadata import EntryPoint, PackageNotFoundError, distributions, version

from workloads.core.errors import PluginError

GROUPS = "midre."
"""What the names of groups of entry points begin with; the rest is the room, such as `attacks`."""
HERE = __name__.partition(".")[0]


def import_plugins(room: str) -> None:
    """Import the modules that installed packages declare for a room, such as `attacks`, so that they register.

    Raises:
        PluginError: if one cannot be imported.
    """
    for entry in _entries(tuple(sys.path)):
        if entry.group == GROUPS + room:
            try:
                importlib.import_module(entry.module)
            except Exception as error:  # code of others: whatever it raises ends here, with its name
                raise PluginError(
                    f"{requirement(entry)}: {entry.module}, its {room} {entry.name!r}, cannot be imported: "
                    f"{type(error).__name__}: {error}: mend it, or uninstall the package."
                ) from error


def origin(cls: type) -> str | None:
    """The distribution that a class comes with, such as `midre-example==1.0`; None for midre's classes and for loose
    modules."""
    package = cls.__module__.partition(".")[0]
    if package == HERE:
        return None
    declared = (entry for entry in _entries(tuple(sys.path)) if entry.module.partition(".")[0] == package)
    return next(map(requirement, declared), None)


def check_installed(requirements: Iterable[str], *, where: str) -> None:
    """Check that these distributions are installed in these versions.

    Args:
        requirements: such as `midre-example==1.0`.
        where: whose packages they are, to begin the message with.

    Raises:
        PluginError: naming the first that is missing or has another version.
    """
    for needed in requirements:
        name, _, wanted = needed.partition("==")
        try:
            installed = version(name)
        except PackageNotFoundError:
            raise PluginError(f"{where}: the plug-in {needed} is not installed: pip install {needed}.") from None
        if installed != wanted:
            raise PluginError(f"{where}: the plug-in {name} {installed} is installed, not {wanted}: install that.")


def requirement(entry: EntryPoint) -> str:
    """The distribution that declares an entry point, with its version, as pip takes it."""
    return f"{entry.dist.name}=={entry.dist.version}" if entry.dist else entry.name


@functools.cache
def _entries(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """All entry points of midre's groups, in a fixed order; `path` is where Python looks for packages."""
    declared = (entry for package in distributions(path=list(path)) for entry in package.entry_points)
    ours = (entry for entry in declared if entry.group.startswith(GROUPS))
    return tuple(sorted(ours, key=lambda entry: (requirement(entry), entry.group, entry.name)))
