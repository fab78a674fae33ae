"""What Airflow learns about this package."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
import tomllib
import warnings
from dataclasses import fields
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import airflow_bifrost
from airflow_bifrost._compat import conf
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.hooks.bifrost import BifrostHook
from airflow_bifrost.hooks.connection import EXTRA_FIELDS
from airflow_bifrost.provider_info import CONN_FIELDS, get_provider_info
from airflow_bifrost.worker import wait

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
    "retry_budget",
    "transport",
)
ROOT = Path(__file__).parents[2]


FRESH = """
import json, warnings

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

print("result:", json.dumps({
    "early": early,
    "form": form,
    "hook": [hook.connection_id_attribute_name, hook.connection_testable, hook.package_name],
    "version": manager.providers["airflow-provider-bifrost"].version,
    "late": late,
    "warned": [f"{warning.category.__name__} {warning.message}" for warning in warned],
}))
"""


@pytest.fixture(scope="module")
def fresh_airflow() -> dict[str, Any]:
    """What an Airflow in a new interpreter knows of this package; its state stays out of the other tests."""
    done = subprocess.run(
        [sys.executable, "-c", FRESH], env=dict(os.environ), capture_output=True, text=True, timeout=120, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("result:")]
    assert lines, done.stderr
    return dict(json.loads(lines[-1].removeprefix("result:")))


def test_the_metadata_are_valid_for_airflow() -> None:
    schema = json.loads(files("airflow").joinpath("provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_the_entry_point_leads_to_the_metadata() -> None:
    [entry] = [
        entry
        for entry in entry_points(group="apache_airflow_provider")
        if entry.dist and entry.dist.name == "airflow-provider-bifrost"
    ]
    assert entry.name == "provider_info"
    assert entry.load() is get_provider_info


def test_the_metadata_name_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert get_provider_info()["package-name"] == project["name"]


def test_every_module_and_class_in_the_metadata_exists() -> None:
    info = get_provider_info()
    for kind in ("hooks", "sensors", "operators", "triggers"):
        for entry in info[kind]:
            for module in entry["python-modules"]:
                importlib.import_module(module)
    module, _, name = info["connection-types"][0]["hook-class-name"].rpartition(".")
    assert getattr(importlib.import_module(module), name) is BifrostHook
    [commands] = info["cli"]
    module, _, name = commands.rpartition(".")
    assert [command.name for command in getattr(importlib.import_module(module), name)()] == ["bifrost"]


def test_the_connection_type_is_the_hooks() -> None:
    [connection_type] = get_provider_info()["connection-types"]
    assert connection_type["connection-type"] == BifrostHook.conn_type == "bifrost"
    assert connection_type["hook-name"] == BifrostHook.hook_name


def test_the_form_has_the_fields_that_a_connection_may_have() -> None:
    assert tuple(CONN_FIELDS) == EXTRA_FIELDS == CONTRACT


def test_the_form_may_be_left_empty() -> None:
    for field in CONN_FIELDS.values():
        jsonschema.validate(None, field["schema"])


def test_no_field_of_the_form_holds_a_secret() -> None:
    assert not any("format" in field["schema"] for field in CONN_FIELDS.values())


def test_airflow_lists_the_provider(fresh_airflow: dict[str, Any]) -> None:
    assert fresh_airflow["version"] == airflow_bifrost.__version__


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


def test_the_form_of_airflow_3_1_comes_from_the_same_metadata() -> None:
    behaviour = BifrostHook.get_ui_field_behaviour()
    assert set(behaviour) == {"hidden_fields", "relabeling", "placeholders"}
    [connection_type] = get_provider_info()["connection-types"]
    assert behaviour["placeholders"] == connection_type["ui-field-behaviour"]["placeholders"]


def test_airflow_knows_the_options_once_it_knows_its_providers(fresh_airflow: dict[str, Any]) -> None:
    assert fresh_airflow["late"] == [60.0, ""]


def test_the_options_are_read_before_airflow_knows_its_providers(fresh_airflow: dict[str, Any]) -> None:
    assert fresh_airflow["early"] == [60.0, ""]


def test_every_use_of_an_option_has_its_default_as_a_fallback() -> None:
    """Airflow 3.1 knows the defaults of providers only where something has asked for them; a worker may not have."""
    options = get_provider_info()["config"]["bifrost"]["options"]
    used = {}
    for path in (ROOT / "airflow_bifrost").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(call, ast.Call)
                and call.args
                and ast.unparse(call.args[0]) == "'bifrost'"
                and ast.unparse(call.func).startswith("conf.")
            ):
                fallback = {word.arg: ast.literal_eval(word.value) for word in call.keywords}["fallback"]
                used[ast.literal_eval(call.args[1])] = str(fallback).removesuffix(".0")
    assert {name: options[name]["default"] for name in used} == used
    assert set(used) == set(options)


def test_an_option_may_be_set_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__BIFROST__PROGRESS_INTERVAL", "7.5")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert conf.getfloat("bifrost", "progress_interval", fallback=60.0) == 7.5


def test_the_settings_of_waits_have_one_default_each() -> None:
    options = get_provider_info()["config"]["bifrost"]["options"]
    for name in ("max_in_flight", "poll_interval", "connection_ttl", "coalesce", "retry_budget"):
        default = next(field.default for field in fields(GatewayConfig) if field.name == name)
        assert str(options[name]["default"]) in (str(default), f"{default:g}"), name
    assert GatewayConfig("http://gw.example").poll_interval == wait.DEFAULT_POLL_INTERVAL
