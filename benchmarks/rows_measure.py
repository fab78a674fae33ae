"""One contender, once, in this fresh process: prompts in a JSONL file become rows in a file. Prints one line of JSON.

    python benchmarks/rows_measure.py CONTENDER N URL

Ten rows come first, so that what is loaded once is in no figure.
"""

# ruff: noqa: T201 - a script: it prints

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
from measure import _cpu, _memory
from rows_gateway import MODEL, WORDS, answers, made

CONN_ID = "bench"
MOST = 50_000  # rows of a batch, at OpenAI
WARM = 10  # rows


def write_prompts(n: int, file: Path) -> None:
    """Prompts of 40 to 60 words, each a JSON string."""
    chance, vocabulary = random.Random(5), WORDS.split()
    with file.open("w") as out:
        for number in range(n):
            words = " ".join(chance.choices(vocabulary, k=chance.randint(40, 60)))
            out.write(json.dumps(f"Summarise case {number} as JSON: {words}") + "\n")


def prompts(file: Path) -> Iterator[str]:
    with file.open("rb") as lines:
        yield from map(json.loads, lines)


class Task:
    """What Airflow gives a task, in memory."""

    def __init__(self, name: str) -> None:
        self.store: dict[str, str] = {}
        ti: dict[str, Any] = {"dag_id": "bench", "task_id": name, "run_id": "run", "map_index": -1}
        ti |= {"try_number": 1, "max_tries": 0, "xcom_push": lambda key, value: None}
        self.ti = SimpleNamespace(**ti)

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self.store[key]) if key in self.store else default

    def set(self, key: str, value: Any) -> None:
        self.store[key] = json.dumps(value)

    def context(self) -> dict[str, Any]:
        return {"ti": self.ti, "task_instance": self.ti, "task_state_store": self}


def connection(conn_type: str, host: str) -> None:
    value = {"conn_type": conn_type, "host": host, "password": "sk-bench"}
    os.environ[f"AIRFLOW_CONN_{CONN_ID.upper()}"] = json.dumps(value)


def ours(url: str, source: Path, folder: Path) -> int:
    from airflow_bifrost import BatchRunOperator

    connection("bifrost", url)
    operator = BatchRunOperator(
        task_id=folder.name,
        input_path=str(source),
        output_path=str(folder / "rows.jsonl"),
        model=MODEL,
        bifrost_conn_id=CONN_ID,
    )
    return int(operator.execute(Task(folder.name).context())["rows"]["succeeded"])


def common_ai(url: str, source: Path, folder: Path) -> int:
    """It takes one batch a task, so there is a task for each 50,000 rows."""
    from airflow.providers.common.ai.operators.llm_batch import LLMBatchOperator

    connection("pydanticai", f"{url}/v1")
    rows, done = list(prompts(source)), 0
    for start in range(0, len(rows), MOST):
        name = f"{folder.name}-{start}"
        operator = LLMBatchOperator(
            task_id=name,
            requests=rows[start : start + MOST],
            result_path=f"file://{folder}",
            llm_conn_id=CONN_ID,
            model_id=f"openai:{MODEL}",
        )
        done += operator.execute(Task(name).context())["counts"]["succeeded"]
    return done


def steadybatch(url: str, source: Path, folder: Path) -> int:
    """With its default, a checkpoint in memory: one in a file is written to the disk for each row."""
    from openai import OpenAI
    from steadybatch import Request, Runner
    from steadybatch.providers.openai_batch import OpenAIBatch

    runner = Runner(OpenAIBatch(OpenAI(base_url=f"{url}/v1", api_key="sk-bench")), MODEL)
    report = runner.run(
        Request(str(number), [{"role": "user", "content": prompt}]) for number, prompt in enumerate(prompts(source))
    )
    with (folder / "rows.jsonl").open("w") as out:
        for result in report.results:
            out.write(json.dumps({"key": result.key, "outcome": result.outcome, "text": result.text}) + "\n")
    return report.ok


def yardstick(url: str, source: Path, folder: Path) -> int:
    """The gateway's answers, read and written: no more than that."""
    done = 0
    with source.open("rb") as lines, (folder / "rows.jsonl").open("wb") as out:
        for line in lines:
            out.write(msgspec.json.encode(msgspec.json.decode(line)) + b"\n")
            done += 1
    return done


CONTENDERS = {"ours": ours, "common-ai": common_ai, "steadybatch": steadybatch, "msgspec": yardstick}


def write_input(contender: str, n: int, file: Path) -> None:
    if contender != "msgspec":
        write_prompts(n, file)
        return
    with file.open("wb") as out:
        out.writelines(answers((b'{"custom_id":"row-%09d"}' % number for number in range(1, n + 1)), 0))


def measure(contender: str, n: int, url: str, home: Path) -> dict[str, Any]:
    run = CONTENDERS[contender]
    for name, rows in (("warm", WARM), ("run", n)):
        (home / name).mkdir()
        write_input(contender, rows, home / f"{name}.jsonl")
    run(url, home / "warm.jsonl", home / "warm")
    before = made(url)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is free already is not to hide what is needed
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest memory so far
    memory, cpu, began = _memory("VmRSS"), _cpu(), time.perf_counter()
    done = run(url, home / "run.jsonl", home / "run")
    seconds, cpu = time.perf_counter() - began, _cpu() - cpu
    if done != n:
        raise SystemExit(f"{contender}: {done} of {n} rows")
    making = made(url) - before
    return {
        "contender": contender,
        "n": n,
        "seconds": seconds - making,
        "making": making,
        "cpu": cpu,
        "memory": _memory("VmHWM") - memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("n", type=int)
    parser.add_argument("url")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        print(json.dumps(measure(options.contender, options.n, options.url, Path(home))), flush=True)


if __name__ == "__main__":
    main()
