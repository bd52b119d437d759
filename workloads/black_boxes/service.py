"""A Python function as a black box, such as one that asks a model behind a service."""

from __future__ import annotations

import builtins
import importlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field
from torch import Tensor

from workloads.black_boxes.box import BlackBox, BlackBoxConfig
from workloads.black_boxes.meter import QueryMeter, ServiceLimits
from workloads.core.errors import AnswerError

ENTRY_POINT = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"


def _names_function(service: str) -> str:
    if not re.fullmatch(ENTRY_POINT, service):
        raise ValueError(f"{service!r} names no function: write module:function")
    return service


class ServiceConfig(BlackBoxConfig):
    """A target model as a Python function."""

    service: Annotated[str, AfterValidator(_names_function)]
    """The function as `module:function`, which every worker can import (a plug-in's package, or PYTHONPATH). It takes
    float32 images (N, C, H, W) in [0, 1] on the CPU and returns a tensor of answers to them."""
    service_revision: Annotated[str, Field(min_length=1)]
    """What the service runs now, in words of yours such as a version or a date. Results are kept by it: when the model
    behind the service changes, change this, and it is attacked anew."""


class Service(BlackBox):
    """A function of somebody else's, asked within limits."""

    config: ServiceConfig

    def __init__(
        self,
        config: ServiceConfig,
        names: Sequence[str],
        *,
        limits: ServiceLimits,
        meter: QueryMeter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Look the function up.

        Raises:
            AnswerError: if there is none.
            ConfigError: if its classes are not `names`.
        """
        super().__init__(config, names)
        self._function = entry_point(config.service)
        self._retried = tuple(_exception(name) for name in limits.retry_on)
        self._limits, self._meter, self._sleep = limits, meter, sleep

    @property
    def sent(self) -> int:
        return self._meter.sent

    def ask(self, images: Tensor) -> Tensor:
        """What the function returns, after retries."""
        sent = images.detach().cpu().float()
        for wait_s in self._waits():
            self._meter.take(len(images))
            try:
                return self._function(sent)
            except self._retried as error:
                if wait_s is None:
                    tries = self._limits.retries + 1
                    raise AnswerError(f"{self.config.service} failed {tries} times: {_named(error)}.") from error
                self._sleep(wait_s)
            except Exception as error:  # code of others: whatever it raises ends here, with its name
                raise AnswerError(f"{self.config.service} failed: {_named(error)}.") from error
        raise AssertionError("the last try returns or raises")

    def _waits(self) -> Iterator[float | None]:
        """Seconds to wait after each try that fails; None after the last one."""
        yield from (self._limits.backoff_s * 2**retry for retry in range(self._limits.retries))
        yield None


def entry_point(name: str) -> Callable[[Tensor], Tensor]:
    """The function that `module:function` names.

    Raises:
        AnswerError: if there is none.
    """
    module, _, function = name.partition(":")
    try:
        attribute = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        raise AnswerError(
            f"{name}: no module {error.name!r} is found: install its package on every node, or add its folder to "
            "PYTHONPATH."
        ) from error
    except AttributeError as error:
        raise AnswerError(f"{name}: {module} has no {function!r}.") from error
    except Exception as error:  # code of others: whatever it raises ends here, with its name
        raise AnswerError(f"{name}: {module} cannot be imported: {_named(error)}.") from error
    if not callable(attribute):
        raise AnswerError(f"{name} is no function but a {type(attribute).__name__}.")
    called: Callable[[Tensor], Tensor] = attribute
    return called


def _exception(name: str) -> type[BaseException]:
    """The exception of this name.

    Raises:
        AnswerError: if there is none.
    """
    module, _, kind = name.rpartition(":")
    attribute = getattr(builtins, kind, None) if not module else entry_point(name)
    if not (isinstance(attribute, type) and issubclass(attribute, Exception)):
        raise AnswerError(f"retry_on: {name!r} is no exception: name one of Python's own, or module:Class.")
    return attribute


def _named(error: BaseException) -> str:
    text = " ".join(str(error).split()).rstrip(".")[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
