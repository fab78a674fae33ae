"""Temporary folders do not pile up on a worker whose tasks are killed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_bifrost.worker import scratch
from airflow_bifrost.worker.scratch import scratch_folder

TASK = """
from airflow_bifrost.worker.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "part.jsonl").write_text("rows")
    print(folder, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@contextmanager
def task(temporary_folder: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process with a folder of rows, killed at the end."""
    command, env = [sys.executable, "-c", TASK], {"TMPDIR": str(temporary_folder)}
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)


def test_the_next_start_removes_what_a_killed_process_left_and_nothing_of_a_living_one(temporary_folder: Path) -> None:
    with task(temporary_folder) as (_, abandoned):
        pass
    assert (abandoned / "part.jsonl").exists()
    with task(temporary_folder) as (_, alive):
        assert not abandoned.exists()
        with scratch_folder() as own:
            assert (alive / "part.jsonl").exists()
            assert set(temporary_folder.iterdir()) == {alive, own}


def test_a_folder_is_removed_at_the_end_even_after_an_error(temporary_folder: Path) -> None:
    def fill_the_disk() -> None:
        with scratch_folder() as folder:
            (folder / "parts").mkdir()
            (folder / "parts" / "1.jsonl").write_text("rows")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fill_the_disk()
    assert not list(temporary_folder.iterdir())


def test_a_process_that_was_killed_before_it_locked_its_folder_leaves_nothing(temporary_folder: Path) -> None:
    abandoned = temporary_folder / f"{scratch.PREFIX}abc"
    abandoned.mkdir()
    with scratch_folder():
        assert not abandoned.exists()


def test_folders_that_are_not_this_packages_own_stay(temporary_folder: Path) -> None:
    others = temporary_folder / "elsewhere"
    others.mkdir()
    (others / scratch.LOCK).touch()
    (temporary_folder / f"{scratch.PREFIX}link").symlink_to(others)
    (temporary_folder / f"{scratch.PREFIX}file").touch()
    with scratch_folder():
        pass
    assert {path.name for path in temporary_folder.iterdir()} == {
        "elsewhere",
        f"{scratch.PREFIX}link",
        f"{scratch.PREFIX}file",
    }
    assert (others / scratch.LOCK).exists()


def test_a_folder_that_is_removed_before_it_is_locked_is_made_again(
    temporary_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def mkdtemp(prefix: str, dir: Path) -> str:  # noqa: A002 - as tempfile's
        folder = dir / f"{prefix}{len(made)}"
        made.append(folder)
        if len(made) > 1:
            folder.mkdir()
        return str(folder)  # the first is already removed

    monkeypatch.setattr(scratch, "mkdtemp", mkdtemp)
    with scratch_folder() as folder:
        assert folder == made[1]


def test_a_task_does_not_fail_if_another_process_has_removed_its_empty_folder() -> None:
    """Between the removal of the lock and of the folder, another process may take the folder for an abandoned one."""
    with scratch_folder() as folder:
        shutil.rmtree(folder)
    assert not folder.exists()
