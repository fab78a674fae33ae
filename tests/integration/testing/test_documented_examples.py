"""The README's DAGs, and what docs/testing.md tells users to write, taken from there and run as they would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_bifrost import BifrostHook
from airflow_bifrost.exceptions import BifrostGatewayError
from airflow_bifrost.testing import LocalGateway, VirtualKey

ROOT = Path(__file__).parents[3]
BROKE, NARROW = VirtualKey("sk-bf-broke", exhausted="budget"), VirtualKey("sk-bf-narrow", providers=("gemini",))


def example(page: str, mark: str) -> str:
    """The one example in Python that has ``mark`` in it."""
    (found,) = [block for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S) if mark in block]
    return str(found)


def test_the_examples_run_in_a_folder_that_has_nothing_else(tmp_path: Path) -> None:
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "reviews.py").write_text(example("README.md", "@task.bifrost_batch("))
    (dags / "nightly.py").write_text(example("README.md", "BatchSensor("))
    conftest = example("docs/testing.md", "def airflow_db")
    (tmp_path / "conftest.py").write_text(conftest.replace("/path/to/your/dags", str(dags)))
    for test in (
        "def test_my_batch(",
        "def test_my_batch_with_a_token(",
        "def test_my_batch_after_the_upgrade(",
        "def test_my_rows(",
        "def test_my_dag(",
    ):
        name = test.removeprefix("def ").removesuffix("(")
        (tmp_path / f"{name}.py").write_text(example("docs/testing.md", test))

    environment = {name: value for name, value in os.environ.items() if "AIRFLOW" not in name}
    command = [sys.executable, "-m", "pytest", "-q", "."]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert "5 passed" in run.stdout, run.stdout + run.stderr


def refusal() -> int | None:
    with pytest.raises(BifrostGatewayError) as refused:
        BifrostHook().list_batches()
    return refused.value.status_code


@pytest.mark.bifrost_gateway(token="sk-bf-old", virtual_keys=["sk-bf-good"])
def test_a_token_is_refused(bifrost_gateway: LocalGateway) -> None:
    assert refusal() == 403


@pytest.mark.bifrost_gateway(enforce_auth=True)
def test_no_token_is_refused(bifrost_gateway: LocalGateway) -> None:
    assert refusal() == 401


@pytest.mark.bifrost_gateway(token="sk-bf-broke", virtual_keys=[BROKE])
def test_a_virtual_key_has_no_budget(bifrost_gateway: LocalGateway) -> None:
    assert refusal() == 402


@pytest.mark.bifrost_gateway(token="sk-bf-narrow", virtual_keys=[NARROW])
def test_a_virtual_key_may_not_use_a_provider(bifrost_gateway: LocalGateway) -> None:
    assert refusal() == 403
    assert BifrostHook().list_batches(provider="gemini") == []


@pytest.mark.bifrost_gateway(keys={"openai": "not_for_batches"})
def test_a_provider_is_not_set_up_for_batches(bifrost_gateway: LocalGateway) -> None:
    assert refusal() == 500


def test_every_recipe_of_the_marker_that_is_documented_stands_here() -> None:
    here = Path(__file__).read_text().replace("[BROKE]", '[VirtualKey("sk-bf-broke", exhausted="budget")]')
    here = here.replace("[NARROW]", '[VirtualKey("sk-bf-narrow", providers=("gemini",))]')
    documented = re.findall(r"\| `(@pytest\.mark\.bifrost_gateway\(.*?\))`", (ROOT / "docs" / "testing.md").read_text())
    assert len(documented) == 5
    assert [recipe for recipe in documented if recipe not in here] == []
