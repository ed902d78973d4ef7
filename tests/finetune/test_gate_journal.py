"""Journals: a line is there whole or not at all, and survives whoever wrote it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.errors import TrainingError
from finetune.journal import append_line, read_lines


def test_what_was_appended_reads_back_in_order(tmp_path: Path):
    values = [{"a": 1}, "two\nlines", ["ü", "\ud800"], None]
    for value in values:
        append_line(tmp_path / "journal", value)

    assert read_lines(tmp_path / "journal") == values


def test_no_file_has_no_lines(tmp_path: Path):
    assert read_lines(tmp_path / "none") == []


@pytest.mark.parametrize("torn", [b'{"a"', b"x" * 10_000])
def test_a_line_that_was_cut_off_is_not_counted_and_goes_with_the_next(torn: bytes, tmp_path: Path):
    path = tmp_path / "journal"
    append_line(path, 1)
    with path.open("ab") as file:
        file.write(torn)

    assert read_lines(path) == [1]
    append_line(path, 2)
    assert path.read_bytes() == b"1\n2\n"


def test_a_disk_that_is_full_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "journal"
    append_line(path, 1)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            append_line(path, 2)

    assert path.read_bytes() == b"1\n"


def test_a_number_that_json_does_not_know_is_refused_before_anything_is_written(tmp_path: Path):
    with pytest.raises(ValueError, match="JSON"):
        append_line(tmp_path / "journal", float("nan"))

    assert not (tmp_path / "journal").exists()


def test_a_whole_line_that_can_not_be_read_is_damage(tmp_path: Path):
    (tmp_path / "journal").write_text("1\n{\n2\n")

    with pytest.raises(TrainingError, match="damaged"):
        read_lines(tmp_path / "journal")


def test_a_folder_in_its_place_is_told(tmp_path: Path):
    with pytest.raises(TrainingError, match="can't read"):
        read_lines(tmp_path)
