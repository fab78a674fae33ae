"""Rows through ``write_parts``, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_bifrost.exceptions import BatchInputError
from airflow_bifrost.submission.limits import limits_of
from airflow_bifrost.submission.parts import Part, RequestFiles, write_parts

CHAT = "/v1/chat/completions"
SMALL_BEDROCK = replace(limits_of("bedrock"), min_rows=0)


def written(
    rows: Iterable[Any], folder: Path, provider: str = "openai", endpoint: str = CHAT, **options: Any
) -> RequestFiles:
    """The input, with the arguments that each provider needs."""
    if provider not in ("gemini", "bedrock", "vertex"):
        options.setdefault("model", "m")
    if provider == "anthropic":
        options.setdefault("request_params", {"max_tokens": 64})
    if provider == "bedrock":
        options.setdefault("limits", SMALL_BEDROCK)
    return write_parts(enumerate(rows, 1), folder, provider=provider, endpoint=endpoint, **options)


def write(rows: Iterable[Any], folder: Path, **options: Any) -> list[Part]:
    """Its parts."""
    return written(rows, folder, **options).parts


def lines(parts: Iterable[Part]) -> list[Any]:
    """The request lines of some parts."""
    return [json.loads(line) for part in parts for line in part.path.read_bytes().split(b"\n")[:-1]]


def line_of(row: Any, folder: Path, **options: Any) -> Any:
    """The request line of a row."""
    (line,) = lines(write([row], folder, **options))
    return line


def refused(rows: Iterable[Any], folder: Path, **options: Any) -> BatchInputError:
    """The error for rows that cannot be sent. No file is left."""
    with pytest.raises(BatchInputError) as caught:
        write(rows, folder, **options)
    assert list(folder.iterdir()) == []
    return caught.value


def reason(row: Any, folder: Path, **options: Any) -> str:
    """Why a row cannot be sent."""
    ((number, text),) = refused([row], folder, **options).errors
    assert number == 1
    return text
