"""What Airflow learns about this package."""

from __future__ import annotations

import ast
import importlib
import json
import tomllib
import warnings
from dataclasses import fields
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

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
    "settle_time",
    "transport",
)
ROOT = Path(__file__).parents[2]


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


def test_the_form_of_airflow_3_1_comes_from_the_same_metadata() -> None:
    behaviour = BifrostHook.get_ui_field_behaviour()
    assert set(behaviour) == {"hidden_fields", "relabeling", "placeholders"}
    [connection_type] = get_provider_info()["connection-types"]
    assert behaviour["placeholders"] == connection_type["ui-field-behaviour"]["placeholders"]


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
    for name in ("max_in_flight", "poll_interval", "connection_ttl", "coalesce", "retry_budget", "settle_time"):
        default = next(field.default for field in fields(GatewayConfig) if field.name == name)
        assert str(options[name]["default"]) in (str(default), f"{default:g}"), name
    assert GatewayConfig("http://gw.example").poll_interval == wait.DEFAULT_POLL_INTERVAL
