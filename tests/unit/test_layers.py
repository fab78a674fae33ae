"""The layers: a subpackage imports only from those below it. Read from the source, imports inside functions and for types included."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

import airflow_bifrost

ROOT = Path(airflow_bifrost.__file__).parent

# Subpackages of one layer do not import each other.
LAYERS = (
    {"providers"},
    {"gateway"},
    {"waiting", "submission", "results"},
    {"hooks"},
    {"triggers", "doctor"},
    {"worker"},
    {"runs"},
    {"sensors", "operators"},
    {"decorators"},
)
FOR_ALL = {"exceptions", "_compat", "__version__", "provider_info"}
WITHOUT_AIRFLOW = {"gateway", "waiting"}
ABOUT_AIRFLOW = {"_compat", "provider_info"}  # exceptions takes its base class from the former

MODULES = sorted(ROOT.rglob("*.py"))


def subpackage_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a module imports, each as far as it goes: ``from a.b import c`` is ``a.b.c``."""
    package = ["airflow_bifrost", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def subpackages_imported_by(path: Path) -> set[str]:
    return {parts[1] for name in imports(path) if (parts := name.split("."))[0] == "airflow_bifrost" and len(parts) > 1}


def airflow_imported_by(path: Path) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] == "airflow"}


def test_every_subpackage_has_its_layer() -> None:
    found = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert found - {"testing"} <= set().union(*LAYERS)


def violations(paths: Iterable[Path], check: Callable[[Path], set[str]]) -> dict[str, set[str]]:
    """The modules in which a check finds something."""
    return {str(path.relative_to(ROOT)): found for path in paths if (found := check(path))}


def allowed_in(subpackage: str) -> set[str]:
    """What a subpackage may import."""
    if subpackage in FOR_ALL:
        return FOR_ALL
    if subpackage == "__main__":
        return {"doctor"}
    if subpackage == "testing":
        return {"testing", "__version__"}
    layer = next(number for number, names in enumerate(LAYERS) if subpackage in names)
    return FOR_ALL.union({subpackage}, *LAYERS[:layer])


def modules(*names: str) -> list[Path]:
    return [path for path in MODULES if subpackage_of(path) in names]


def test_a_subpackage_imports_only_from_those_below_it() -> None:
    # The package's __init__ names every subpackage, for lazy loading; see test_imports.
    paths = [path for path in MODULES if subpackage_of(path) != "__init__"]
    assert not violations(paths, lambda path: subpackages_imported_by(path) - allowed_in(subpackage_of(path)))


def test_the_gateway_and_the_waiting_know_nothing_of_airflow() -> None:
    paths = modules(*WITHOUT_AIRFLOW)
    assert not violations(paths, lambda path: airflow_imported_by(path) | subpackages_imported_by(path) & ABOUT_AIRFLOW)


def test_the_local_gateway_needs_nothing_of_airflow() -> None:
    assert not violations(modules("testing"), airflow_imported_by)


def test_nothing_is_built_upon_the_doctor() -> None:
    paths = [path for path in MODULES if subpackage_of(path) not in {"doctor", "__main__"}]
    assert not violations(paths, lambda path: subpackages_imported_by(path) & {"doctor"})


def test_the_doctor_knows_the_gateway_and_the_hook_alone() -> None:
    asked = set().union(*(subpackages_imported_by(path) for path in MODULES if subpackage_of(path) == "doctor"))
    assert asked - FOR_ALL == {"doctor", "gateway", "hooks", "providers"}


def test_the_metadata_imports_nothing_but_types() -> None:
    assert set(imports(ROOT / "provider_info.py")) == {"__future__.annotations", "typing.Any"}


def version_branches(path: Path) -> set[str]:
    """What a module does that depends on Airflow's version: an import that may fail, or a question for the version."""
    found = {
        name
        for name in imports(path)
        if name in {"airflow.__version__", "airflow.version.version"}
        or name.startswith(("packaging.", "importlib.metadata"))
    }
    for attempt in (node for node in ast.walk(tree(path)) if isinstance(node, ast.Try | ast.TryStar)):
        caught = {name.id for handler in attempt.handlers for name in ast.walk(handler) if isinstance(name, ast.Name)}
        body = ast.Module(attempt.body, [])
        tried = {
            (getattr(node, "module", None) or getattr(node, "names", [ast.alias("")])[0].name).split(".")[0]
            for node in ast.walk(body)
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        if "airflow" in tried and caught & {"ImportError", "ModuleNotFoundError", "AttributeError"}:
            found.add(f"try in line {attempt.lineno}")
    return found


def test_only_compat_branches_on_the_version_of_airflow() -> None:
    assert not violations([path for path in MODULES if path.name != "_compat.py"], version_branches)
    assert version_branches(ROOT / "_compat.py")


IMPORT_AT_THE_TOP = {"waiting", "submission", "results", "triggers", "worker", "runs"}  # no DAG file loads these
BUT = {
    "results/storage.py",  # users read results without Airflow
    "triggers/airflow_channel.py",  # the task runner exists in a worker only
    "worker/arguments.py",  # DAG files load it
}


def late_imports(path: Path) -> set[str]:
    functions = (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    found = {node for each in functions for node in ast.walk(each) if isinstance(node, ast.Import | ast.ImportFrom)}
    return {f"line {node.lineno}" for node in found}


def test_what_no_dag_file_loads_imports_at_its_top() -> None:
    paths = [path for path in modules(*IMPORT_AT_THE_TOP) if str(path.relative_to(ROOT)) not in BUT]
    assert not violations(paths, late_imports)


def test_the_reader_of_imports_sees_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    module = tmp_path / "hooks" / "module.py"
    module.parent.mkdir()
    module.write_text(
        "import airflow_bifrost.sensors.batch as batch\n"
        "from airflow_bifrost import waiting\n"
        "from . import connection\n"
        "from ..triggers import event\n"
        "def late():\n    from airflow_bifrost.operators.batch import BatchRetrieveOperator\n"
    )
    assert subpackages_imported_by(module) == {"sensors", "waiting", "hooks", "triggers", "operators"}
