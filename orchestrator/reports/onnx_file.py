"""A classifier as an ONNX file, normalisation included, for programs that know nothing of torch."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from workloads.models.base import Classifier

LIBRARIES = ("onnx", "onnxscript")


def write_onnx(model: Classifier, *, size: int, file: Path) -> str | None:
    """Write a network that reads `images` (batch, C, size, size) in [0, 1] and gives `logits` (batch, classes).

    Returns:
        None once it is written; otherwise why it is not, in a clause.
    """
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed: pip install 'midre[onnx]'"
    images = torch.rand(2, len(model.mean), size, size)  # of one image, the batch would be taken for a constant
    batch = {0: torch.export.Dim("batch", min=1)}
    try:
        with warnings.catch_warnings(), _silent():
            warnings.simplefilter("ignore")  # torch's, of itself
            torch.onnx.export(
                model.eval(),
                (images,),
                file,
                dynamo=True,
                verbose=False,
                external_data=False,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=(batch,),
            )
    except torch.onnx.OnnxExporterError as error:
        file.unlink(missing_ok=True)
        return f"torch cannot write this network: {_first_line(error)}"
    return None


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep the steps and graphs that torch prints off the terminal."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _first_line(error: BaseException) -> str:
    """The first line of the error that the others come from, which torch hides below pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
