"""The benchmarks, as far as the source tells."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_benchmarks_import_each_other_without_a_circle() -> None:
    scripts = {path.stem: ast.parse(path.read_text()) for path in BENCHMARKS.glob("*.py")}
    graph = {
        name: {
            module
            for node in ast.walk(tree)
            for module in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            if module in scripts
        }
        for name, tree in scripts.items()
    }
    assert "figures" in graph["report"]
    TopologicalSorter(graph).prepare()  # raises CycleError
