"""The evidence is read from logs and files without missing any of it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from support import tokens

from endurance.collect import read_output
from endurance.logs import component_errors, task_errors

TOKEN = "Canary7f3a9c51e0b8d264Q"

ENTRY = {
    "timestamp": "2026-11-28T18:51:03.422590Z",
    "level": "error",
    "event": "Task failed with exception",
    "error_detail": [
        {
            "exc_type": "BifrostUnavailable",
            "exc_value": "no answer",
            "frames": [
                {"filename": "/x/airflow/sdk/task_runner.py"},
                {"filename": "/x/airflow_bifrost/sensors/batch.py"},
            ],
        }
    ],
}
TRACEBACK = """2026-11-28T18:40:25 [info ] request finished
Traceback (most recent call last):
  File "/x/airflow/triggers/runner.py", line 1, in run
    await trigger()
  File "/x/airflow_bifrost/waiting/hub.py", line 2, in poll
    raise KeyError("b1")
KeyError: 'b1'
2026-11-28T18:40:26 [info ] request finished
"""


def test_an_exception_in_a_tasks_log_is_read_with_its_time_and_its_files(tmp_path: Path) -> None:
    log = tmp_path / "attempt=1.log"
    log.write_text("\n".join(["not JSON", json.dumps({"event": "fine", "level": "info"}), json.dumps(ENTRY)]))
    (error,) = task_errors(log, "job")
    assert (error.kind, error.message, error.job) == ("BifrostUnavailable", "no answer", "job")
    assert error.files[-1].endswith("airflow_bifrost/sensors/batch.py")
    assert error.at == pytest.approx(1795891863.42259)


def test_a_traceback_in_a_components_log_is_read_with_its_files(tmp_path: Path) -> None:
    log = tmp_path / "triggerer-1.log"
    log.write_text(TRACEBACK)
    (error,) = component_errors(log)
    assert (error.kind, error.message) == ("KeyError", "'b1'")
    assert error.files[-1].endswith("airflow_bifrost/waiting/hub.py")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "it is not there"),
        (b'{"a": 1}', "its last line has no end"),
        (b'{"a": 1}\n{"a"\n', "a line is not JSON"),
    ],
)
def test_a_file_that_is_not_whole_has_no_rows(content: bytes | None, problem: str) -> None:
    output = read_output(content)
    assert output.rows is None
    assert problem in output.problem


@pytest.mark.parametrize(
    "content",
    [
        TOKEN,
        f"Bearer {TOKEN}",
        TOKEN[:-4],
        TOKEN[::-1],
        TOKEN.encode().hex(),
        "".join(f"\\u{ord(character):04x}" for character in TOKEN),
        *(
            base64.b64encode(f"{before}{TOKEN}{after}".encode()).decode()
            for before in ("", "k", "Bearer ")
            for after in ("", "\n")
        ),
    ],
)
def test_a_token_is_found_in_each_form(content: str) -> None:
    found = list(tokens.sightings("a log", f"before {content} after".encode(), [TOKEN]))
    assert [sighting.where for sighting in found] == ["a log"]


def test_a_masked_token_is_not_reported(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(f"Bearer *** {TOKEN[:4]}")
    assert not list(tokens.in_files(tmp_path, [TOKEN]))
