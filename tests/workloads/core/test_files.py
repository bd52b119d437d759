"""Files that are replaced as a whole: whatever goes wrong, the old content or the new one stands, never half."""

from __future__ import annotations

from pathlib import Path

import pytest

from workloads.core.files import replace_when_written, write_atomically


def test_the_new_content_replaces_the_old_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "result.json"
    write_atomically(file, b"old")
    write_atomically(file, b"new")
    assert [(path.name, path.read_bytes()) for path in file.parent.iterdir()] == [("result.json", b"new")]


def test_while_the_new_content_is_written_a_reader_sees_the_old(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    write_atomically(file, b"old")
    with replace_when_written(file, fsync=True) as temporary:
        temporary.write_bytes(b"half")
        assert file.read_bytes() == b"old"
    assert file.read_bytes() == b"half"


def test_a_writer_that_fails_leaves_the_old_content(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    write_atomically(file, b"old")
    with pytest.raises(OSError, match="disk is full"), replace_when_written(file) as temporary:
        temporary.write_bytes(b"half")
        raise OSError("disk is full")
    assert file.read_bytes() == b"old"


def test_with_a_fixed_suffix_the_next_try_overwrites_what_a_killed_one_left(tmp_path: Path) -> None:
    file = tmp_path / "shard.parquet"
    (tmp_path / "shard.parquet.partial").write_bytes(b"left by a killed process")
    with replace_when_written(file, suffix=".partial") as temporary:
        temporary.write_bytes(b"complete")
    assert [path.name for path in tmp_path.iterdir()] == ["shard.parquet"]
