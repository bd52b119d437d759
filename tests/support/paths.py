"""Where the tests find the files of the repository."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
SPECS = ROOT / "specs"
ERASING_OF_DIGITS = Path(__file__).with_name("erasing_of_digits.yaml")
GOLDEN = ROOT / "tests" / "golden"
