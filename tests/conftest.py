"""An Airflow of the tests' own: set before anything imports Airflow, gone when the tests are.

Unit tests need no database. Those that run a DAG ask for the fixture ``airflow_db``.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

TESTS = Path(__file__).parent
DAG_FOLDERS = {"examples": TESTS.parent / "dags_examples", "integration": TESTS / "integration" / "dags"}
HOME = tempfile.mkdtemp(prefix="airflow-bifrost-tests-")

for _name in [name for name in os.environ if "AIRFLOW" in name.upper()]:
    del os.environ[_name]

os.environ |= {
    "AIRFLOW_HOME": HOME,
    "AIRFLOW__CORE__FERNET_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",  # a deployment has one, and is known by it
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(
        [
            {
                "name": name,
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": str(folder)},
            }
            for name, folder in DAG_FOLDERS.items()
            if folder.is_dir()
        ]
    ),
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
}


# No property has a deadline: on a busy machine it would measure the machine.
settings.register_profile("tests", deadline=None)
# Minutes: `make test-nightly`
settings.register_profile("nightly", deadline=None, max_examples=100_000, print_blob=True)
settings.load_profile("tests")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their argument. Compressed bytes differ from process to process, and so would the test's name."""
    return argname if isinstance(val, bytes) else None


@pytest.hookimpl(optionalhook=True)  # also with -p no:xdist
def pytest_xdist_auto_num_workers() -> int:
    """Two to four: each process loads Airflow, which takes seconds of CPU, and that of the end-to-end tests takes longest."""
    return max(2, min(os.cpu_count() or 1, 4))


# They ask for `airflow_db`, which takes seconds to create.
WITH_DATABASE = ("doctor/test_commands.py", "hooks/test_hook_in_tasks.py", "test_dags_examples.py")


class OneAirflow(LoadScopeScheduling):
    """Keeps tests together in one process of pytest-xdist: those of a file, those that share a database, and all end-to-end tests."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file.startswith("tests/e2e/"):
            return "tests/e2e"
        return "database" if file.endswith(WITH_DATABASE) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneAirflow:
    return OneAirflow(config, log)


def pytest_unconfigure() -> None:
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def airflow_db() -> None:
    """Create the database in the tests' AIRFLOW_HOME, once."""
    from airflow.utils.db import initdb

    initdb()
