"""What commands print: results on stdout, messages on stderr, and the exit statuses that scripts rely on."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

from rich.console import Console

stderr = Console(stderr=True)
stdout = Console(width=None if sys.stdout.isatty() else 160)

TRIALS_FAILED = 1
"""Exit status if trials failed, numbers differ or images are missing."""
WRONG_REQUEST = 2
"""Exit status if a command cannot be carried out as it was given."""


def print_json(value: object) -> None:
    """Print one value as one line of JSON."""
    print_text(json.dumps(value))


def print_text(text: str) -> None:
    """Print text as it is: no wrapping, no colours."""
    stdout.file.write(f"{text}\n")


def print_line(text: str, *, console: Console = stdout) -> None:
    """Print a line that may hold paths: not wrapped, highlighted or read as markup."""
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def print_notes(notes: Iterable[str]) -> None:
    """Print on stderr what should be known of the data, a line each."""
    for note in notes:
        print_line(f"note: {note}", console=stderr)
