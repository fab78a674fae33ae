"""No module decides by a provider's name, except in ``providers`` and in ``testing``, whose tables are independent on purpose."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import airflow_bifrost
from airflow_bifrost import providers

ROOT = Path(airflow_bifrost.__file__).parent
NAMES = set(providers.ALL)
MODULES = [
    path for path in sorted(ROOT.rglob("*.py")) if path.relative_to(ROOT).parts[0] not in {"providers", "testing"}
]


def decisions_by_name(source: str) -> Iterator[str]:
    """The places where code compares, matches, looks up or tabulates the name of a provider."""
    for node in ast.walk(ast.parse(source)):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        elif isinstance(node, ast.Dict):
            parts = list(node.keys)
        elif isinstance(node, ast.Set | ast.List | ast.Tuple):
            parts = [node]
        elif isinstance(node, ast.Subscript):
            parts = [node.slice]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            methods = {"startswith", "endswith", "get", "count", "index", "fullmatch"}
            if called.rpartition(".")[2] in methods | {"frozenset", "set"}:
                parts = list(node.args)
        for part in filter(None, parts):
            for constant in ast.walk(part):
                if isinstance(constant, ast.Constant) and constant.value in NAMES:
                    yield f"line {node.lineno}: {ast.unparse(node)[:100]}"


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(ROOT)) for path in MODULES])
def test_no_module_decides_by_a_providers_name(path: Path) -> None:
    assert list(decisions_by_name(path.read_text())) == []


@pytest.mark.parametrize(
    "code",
    [
        "provider == 'gemini'",
        "'bedrock' != name",
        "provider in ('openai', 'azure')",
        "NATIVE = frozenset({'anthropic'})",
        "TABLE = {'vertex': 1}",
        "match provider:\n    case 'openai':\n        pass",
        "provider.startswith('openai')",
        "providers.get('bedrock').native_id(x)",
    ],
)
def test_every_kind_of_decision_is_detected(code: str) -> None:
    assert list(decisions_by_name(code))


def test_a_default_is_not_a_decision() -> None:
    assert list(decisions_by_name("DEFAULT_PROVIDER = 'openai'\ndef f(provider='openai'): pass")) == []
