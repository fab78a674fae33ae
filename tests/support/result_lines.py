"""Lines of results, as providers write them."""

from __future__ import annotations

import json
from typing import Any

from airflow_bifrost.results.parse import result_row
from airflow_bifrost.results.rows import ResultRow


def row_of(line: Any) -> ResultRow:
    """The row of a line that is about one."""
    row = result_row(line)
    assert row is not None
    return row


def answered(body: Any, status: Any = 200, error: Any = None) -> ResultRow:
    """The row of a line of OpenAI's files."""
    response = {"status_code": status, "request_id": "req_1", "body": body}
    return row_of({"id": "batch_req_1", "custom_id": "r", "response": response, "error": error})


def chat(content: Any = "Hi", finish_reason: Any = "stop", **message: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    message = {"role": "assistant", "content": content, **message}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]}


def bedrock(output: Any) -> ResultRow:
    """The row of a line of Bedrock's files."""
    return row_of({"recordId": "r", "modelInput": {}, "modelOutput": output})


def succeeded(custom_id: str, text: str = "Hi", **body: Any) -> dict[str, Any]:
    """A line of OpenAI\'s output file."""
    body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], **body}
    return {"custom_id": custom_id, "response": {"status_code": 200, "body": body}, "error": None}


def failed(custom_id: str, code: str = "server_error") -> dict[str, Any]:
    """A line of OpenAI\'s error file."""
    return {"custom_id": custom_id, "response": None, "error": {"code": code, "message": "no"}}


def jsonl(*lines: Any) -> bytes:
    """A file of lines; those that are bytes stay as they are."""
    return b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
