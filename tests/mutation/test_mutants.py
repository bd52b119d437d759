"""The list of mutants fits the source as it is; whether tests kill them, `python -m tests.mutation` finds out."""

from __future__ import annotations

from tests.mutation.mutants import MUTANTS
from tests.support.paths import ROOT


def test_every_mutant_changes_one_place_of_the_source_and_still_compiles() -> None:
    for mutant in MUTANTS:
        source = (ROOT / mutant.file).read_text(encoding="utf-8")
        mutated = mutant.applied_to(source)  # raises if its text is not there exactly once
        assert mutated != source, mutant.name
        compile(mutated, mutant.file, "exec")


def test_every_mutant_has_a_name_of_its_own_and_tests_that_exist() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    missing = {test for mutant in MUTANTS for test in mutant.tests if not (ROOT / "tests" / test).is_file()}
    assert missing == set()
