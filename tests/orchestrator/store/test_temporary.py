"""Temporary folders of processes that were killed are removed, and no others."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from orchestrator.store.owners import Owner
from orchestrator.store.temporary import OWNER, mark_owned, remove_abandoned


def test_only_marked_folders_whose_owner_has_ended_are_removed(tmp_path: Path) -> None:
    me = Owner.this_process()
    for name in ("midre-alive", "midre-gone", "midre-elsewhere", "midre-unmarked", "another"):
        (tmp_path / name).mkdir()
    mark_owned(tmp_path / "midre-alive")
    gone = replace(me, started=me.started + 1)
    for name, owner in (("midre-gone", gone), ("midre-elsewhere", replace(gone, host="leopard")), ("another", gone)):
        (tmp_path / name / OWNER).write_text(json.dumps(asdict(owner)), encoding="utf-8")
    (tmp_path / "midre-gone" / "ray").mkdir()
    (tmp_path / "midre-link").symlink_to(tmp_path / "midre-gone")
    assert remove_abandoned(tmp_path) == [tmp_path / "midre-gone"]
    assert {folder.name for folder in tmp_path.iterdir()} == {
        "midre-alive",
        "midre-elsewhere",
        "midre-unmarked",
        "midre-link",
        "another",
    }
