"""Writes the sections of docs/benchmarks.md between their markers, and the plot, from results.json.

python benchmarks/report.py
"""

from __future__ import annotations

import json
from pathlib import Path

import outage
import plot
import rows
import triggerer
import waits
from figures import RESULTS, Row, in_words, put, table

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
PLOT = ROOT / "docs" / "images" / "bench.png"
DAG_FILES = {
    "ours.py": "**this package: `BatchSensor` and each operator**",
    "peer_openai.py": "openai: `OpenAITriggerBatchOperator`",
    "peer_common_ai.py": "common-ai: `LLMBatchOperator`",
    "peer_anthropic.py": "anthropic: `AnthropicBatchSensor`, `AnthropicBatchOperator`",
}


def imports(results: Row) -> str:
    """The section about what a DAG file costs to parse."""
    cells = [[DAG_FILES[name], f"{cpu:.1f}"] for name, cpu in results["cpu"].items()]
    return f"{in_words(results['machine'])}\n\n{table(['DAG file with', 'CPU, ms'], cells)}"


SECTIONS = {
    "waits": waits.section,
    "triggerer": triggerer.section,
    "outage": outage.section,
    "rows": rows.section,
    "import": imports,
}


def write(kept: Row) -> None:
    """Write every section that there are results for."""
    for name, section in SECTIONS.items():
        if name in kept:
            put(PAGE, name, section(kept[name]))
    if "waits" in kept:
        plot.waits(kept["waits"], PLOT)


if __name__ == "__main__":
    write(json.loads(RESULTS.read_text()))
