"""What a fresh Airflow knows of this package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

import airflow_bifrost
from airflow_bifrost.provider_info import CONN_FIELDS

CONTRACT = (
    "provider",
    "path_prefix",
    "timeout",
    "connect_timeout",
    "verify",
    "max_connections",
    "max_in_flight",
    "poll_interval",
    "connection_ttl",
    "coalesce",
    "transport",
    "retry_budget",
    "settle_time",
)


TOKEN = "sk-bf-0123456789abcdef"


FRESH = """
import contextlib, io, json, warnings

with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    from airflow_bifrost._compat import conf

    early = [conf.getfloat("bifrost", "progress_interval", fallback=60.0), conf.get("bifrost", "state_path", fallback="")]

    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
    from airflow.providers_manager import ProvidersManager

    [form] = [meta.model_dump() for meta in HookMetaService.hook_meta_data() if meta.connection_type == "bifrost"]
    manager = ProvidersManager()
    hook = manager.hooks["bifrost"]
    manager.initialize_providers_configuration()
    from airflow.configuration import conf

    late = [conf.getfloat("bifrost", "progress_interval"), conf.get("bifrost", "state_path")]

from airflow.cli.cli_parser import get_parser


def printed_by(*arguments):
    given = get_parser().parse_args(arguments)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        given.func(given)
    return printed.getvalue()


import asyncio
from airflow_bifrost import BifrostHook

configs = BifrostHook("in_the_file").get_config(), asyncio.run(BifrostHook("by_uri").aget_config())

print("result:", json.dumps({
    "early": early,
    "form": form,
    "hook": [hook.connection_id_attribute_name, hook.connection_testable, hook.package_name],
    "version": manager.providers["airflow-provider-bifrost"].version,
    "late": late,
    "secrets backend": [[config.base_url, config.token, config.timeout] for config in configs],
    "providers list": printed_by("providers", "list", "--output", "plain"),
    "providers hooks": printed_by("providers", "hooks", "--output", "plain"),
    "warned": [f"{warning.category.__name__} {warning.message}" for warning in warned],
}))
"""


@pytest.fixture(scope="module")
def fresh_airflow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an Airflow in a new interpreter knows of this package; its state stays out of the other tests."""
    file = tmp_path_factory.mktemp("secrets") / "connections.json"
    stored = {"conn_type": "bifrost", "host": "gw", "port": "8080", "password": TOKEN, "extra": {"timeout": "5"}}
    file.write_text(json.dumps({"in_the_file": stored, "by_uri": f"bifrost://:{TOKEN}@gw/?timeout=5"}))
    environment = {
        **os.environ,
        "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"connections_file_path": str(file)}),
    }
    done = subprocess.run(
        [sys.executable, "-c", FRESH], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("result:")]
    assert lines, done.stderr
    return dict(json.loads(lines[-1].removeprefix("result:")))


def test_airflow_lists_the_provider(fresh_airflow: dict[str, Any]) -> None:
    assert fresh_airflow["version"] == airflow_bifrost.__version__


def test_airflows_command_line_lists_the_provider_and_its_hook(fresh_airflow: dict[str, Any]) -> None:
    assert "airflow-provider-bifrost" in fresh_airflow["providers list"]
    assert "airflow_bifrost.hooks.bifrost.BifrostHook" in fresh_airflow["providers hooks"]


def test_airflow_finds_the_hook_and_its_test(fresh_airflow: dict[str, Any]) -> None:
    assert fresh_airflow["hook"] == ["bifrost_conn_id", True, "airflow-provider-bifrost"]


def test_airflow_shows_the_connection_form(fresh_airflow: dict[str, Any]) -> None:
    form = fresh_airflow["form"]
    assert form["hook_class_name"] == "airflow_bifrost.hooks.bifrost.BifrostHook"
    assert form["hook_name"] == "Bifrost"
    standard = form["standard_fields"]
    assert standard["login"]["hidden"] is True
    assert (standard["host"]["title"], standard["password"]["title"]) == ("Gateway", "Token")
    assert standard["url_schema"]["placeholder"] == "https"
    assert set(form["extra_fields"]) == set(CONTRACT)
    for name, field in form["extra_fields"].items():
        assert field["value"] is None
        assert field["description"] == CONN_FIELDS[name]["description"]
        assert field["schema"]["title"] == CONN_FIELDS[name]["label"]
        assert field["schema"]["type"] == CONN_FIELDS[name]["schema"]["type"]


def test_airflow_warns_of_nothing_in_this_package(fresh_airflow: dict[str, Any]) -> None:
    assert not [text for text in fresh_airflow["warned"] if "bifrost" in text.lower()]


def test_airflow_knows_the_options_once_it_knows_its_providers(fresh_airflow: dict[str, Any]) -> None:
    assert fresh_airflow["late"] == [60.0, ""]


def test_the_options_are_read_before_airflow_knows_its_providers(fresh_airflow: dict[str, Any]) -> None:
    assert fresh_airflow["early"] == [60.0, ""]


def test_a_connection_from_a_secrets_backend_is_read(fresh_airflow: dict[str, Any]) -> None:
    assert fresh_airflow["secrets backend"] == [["https://gw:8080", TOKEN, 5.0], ["https://gw", TOKEN, 5.0]]
