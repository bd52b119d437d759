"""Components that users pick by name: one file or one package each, found by importing all of a package.

Other distributions add theirs: see `plugins.py`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, cast, runtime_checkable

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from workloads.core.config import PickedConfig
from workloads.core.plugins import import_plugins, origin

Config = TypeVar("Config", bound=PickedConfig)
Component = TypeVar("Component")
Registered = TypeVar("Registered")


@runtime_checkable
class _HasFacts(Protocol):
    """A component class that tells more about itself than its docstring does."""

    def facts(self, config: Any) -> dict[str, str]: ...


class Registry(Generic[Config, Component]):
    """Components of one package, by kind.

    As an annotation, `Annotated[DefenseConfig, DEFENSES]` is a pydantic union over all registered configs, told apart
    by `kind`; a type checker sees the base class `DefenseConfig`.
    """

    def __init__(self, package: str) -> None:
        self._package = package
        self._classes: dict[str, type[Component]] = {}
        self._configs: dict[str, type[Config]] = {}

    def register(self, config: type[Config]) -> Callable[[type[Registered]], type[Registered]]:
        """Class decorator: register the class as the component that `config` describes.

        Raises:
            TypeError: if the kind is taken, or is not the name of the module or package that defines the class.
        """
        kind = config.model_fields["kind"].default

        def add(cls: type[Registered]) -> type[Registered]:
            if kind in self._classes:
                raise TypeError(f"{self._package}: kind {kind!r} is taken by {self._classes[kind].__name__}")
            if kind not in cls.__module__.split("."):
                raise TypeError(f"{cls.__module__}: kind {kind!r} must be the name of its module or package")
            self._classes[kind] = cast("type[Component]", cls)
            self._configs[kind] = config
            config.publication = _docstring_facts(cls)["source"]
            return cls

        return add

    def discover(self) -> None:
        """Import every module inside the registry's package and those of plug-ins, so that all have registered.

        Cheap when done already.

        Raises:
            PluginError: if a plug-in cannot be imported.
        """
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__, prefix=f"{self._package}."):
            importlib.import_module(module.name)
        import_plugins(self._package.rpartition(".")[2])

    def kinds(self) -> tuple[str, ...]:
        """Names of all components, sorted."""
        self.discover()
        return tuple(sorted(self._classes))

    def config_of(self, kind: str) -> type[Config]:
        """Config class of the component with this name.

        Raises:
            KeyError: if there is none.
        """
        self.discover()
        return self._configs[kind]

    def class_of(self, config: Config) -> type[Component]:
        """Class that `config` was registered for."""
        self.discover()
        return self._classes[config.kind]

    def build(self, config: Config, **runtime: object) -> Component:
        """Build the component that `config` describes; `runtime` are arguments that exist only at run time."""
        component: Callable[..., Component] = self.class_of(config)
        return component(config, **runtime)

    def describe(self) -> list[dict[str, str]]:
        """Kind, summary, source and package of every component, and what its class method `facts` adds."""
        return [
            {
                "kind": kind,
                **_docstring_facts(self._classes[kind]),
                **self._more_facts(kind),
                "package": origin(self._classes[kind]) or "midre",
            }
            for kind in self.kinds()
        ]

    def _more_facts(self, kind: str) -> dict[str, str]:
        component = self._classes[kind]
        return component.facts(self._configs[kind]) if isinstance(component, _HasFacts) else {}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        self.discover()
        choices = {kind: handler.generate_schema(config) for kind, config in sorted(self._configs.items())}
        return core_schema.tagged_union_schema(choices=choices, discriminator="kind")


def _docstring_facts(cls: type) -> dict[str, str]:
    text = inspect.cleandoc(cls.__doc__ or "")
    _, _, source = text.partition("Source:")
    return {"summary": text.partition("\n")[0], "source": " ".join(source.partition("\n\n")[0].split())}
