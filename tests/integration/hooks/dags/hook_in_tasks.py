"""The hook in ``@task`` code, sync and async."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from airflow.sdk import dag, task

from airflow_bifrost import BifrostHook


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def hook_in_tasks():
    @task
    def upload_and_create() -> str:
        row = {
            "custom_id": "a",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "m", "messages": []},
        }
        with TemporaryDirectory() as folder, BifrostHook() as hook:
            path = Path(folder) / "in.jsonl"
            path.write_text(json.dumps(row))
            file = hook.upload_file(path)
            return hook.create_batch(input_file_id=file.id, endpoint="/v1/chat/completions").id

    @task
    def look(batch_id: str) -> str:
        async def ask() -> str:
            async with BifrostHook() as hook:
                return (await hook.aget_batch(batch_id)).id

        return asyncio.run(ask())

    look(upload_and_create())


hook_in_tasks()
