"""The result row has the members that users rely on."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec
from support.result_lines import answered, chat

from airflow_bifrost.results.rows import COLUMNS, missing_row


def test_a_row_is_written_with_all_keys_in_the_order_of_the_contract() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    body = {**chat(), "model": "gpt-4o-mini", "usage": usage}
    written = json.loads(msgspec.json.encode(answered(body)))
    assert list(written.items()) == [
        ("custom_id", "r"),
        ("outcome", "succeeded"),
        ("text", "Hi"),
        ("finish_reason", "stop"),
        ("output", None),
        ("response", body),
        ("error", None),
        ("usage", {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12}),
    ]
    assert tuple(written) == COLUMNS


def test_a_missing_row_has_all_keys_too() -> None:
    written = json.loads(msgspec.json.encode(missing_row("r")))
    assert tuple(written) == COLUMNS
    assert (written["custom_id"], written["outcome"], written["error"]["code"]) == ("r", "missing", "missing")
    assert {written[name] for name in ("text", "finish_reason", "output", "response", "usage")} == {None}


def test_rows_are_parsed_without_airflow() -> None:
    script = (
        "import sys, airflow_bifrost.results.rows, airflow_bifrost.results.tally; sys.exit('airflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0
