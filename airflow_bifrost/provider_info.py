"""What Airflow learns about this package: the entry point ``apache_airflow_provider``. Loaded by every Airflow command, so it imports nothing."""

from __future__ import annotations

from typing import Any

CONN_FIELDS: dict[str, dict[str, Any]] = {
    "provider": {
        "label": "Provider",
        "description": "Provider used where a task names none: openai, azure, anthropic, gemini, bedrock, vertex. Default: openai.",
        "schema": {"type": ["string", "null"]},
    },
    "path_prefix": {
        "label": "Path prefix",
        "description": "Where the OpenAI-compatible routes are, below the base URL. Default: /openai.",
        "schema": {"type": ["string", "null"]},
    },
    "timeout": {
        "label": "Timeout (seconds)",
        "description": "How long one request may take. Default: 60; the gateway itself waits 30 s for a provider, by key.",
        "schema": {"type": ["integer", "null"], "minimum": 1},
    },
    "connect_timeout": {
        "label": "Connect timeout (seconds)",
        "description": "How long connecting may take. Default: 10.",
        "schema": {"type": ["integer", "null"], "minimum": 1},
    },
    "verify": {
        "label": "Verify TLS",
        "description": "true (default), false, or the path of a CA bundle on the workers and triggerers.",
        "schema": {"type": ["string", "null"]},
    },
    "max_connections": {
        "label": "Connections",
        "description": "Size of a client's connection pool. Default: 16.",
        "schema": {"type": ["integer", "null"], "minimum": 1},
    },
    "max_in_flight": {
        "label": "Requests at a time",
        "description": "How many requests the waits of a triggerer have on their way at a time. Default: [bifrost] max_in_flight.",
        "schema": {"type": ["integer", "null"], "minimum": 1},
    },
    "poll_interval": {
        "label": "Poll interval (seconds)",
        "description": "Between two looks at a batch, where a task does not say. Default: [bifrost] poll_interval.",
        "schema": {"type": ["integer", "null"], "minimum": 1},
    },
    "connection_ttl": {
        "label": "Connection lifetime (seconds)",
        "description": "After which the waits of a triggerer look this connection up again. Default: [bifrost] connection_ttl.",
        "schema": {"type": ["integer", "null"], "minimum": 1},
    },
    "coalesce": {
        "label": "Coalesce",
        "description": "true or false: look at pages of the list instead of at each batch, where that pays. Default: [bifrost] coalesce.",
        "schema": {"type": ["string", "null"]},
    },
    "transport": {
        "label": "Transport",
        "description": "What carries the requests of triggers: aiohttp (default) or httpx.",
        "schema": {"type": ["string", "null"]},
    },
}

UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["login"],
    "relabeling": {"password": "Token", "host": "Gateway", "schema": "Schema"},
    "placeholders": {
        "host": "bifrost.example.com, or a URL: https://bifrost.example.com/gateway",
        "schema": "https",
        "port": "443",
        "password": "virtual key (sk-bf-...), gateway token or provider key",
    },
}


def get_provider_info() -> dict[str, Any]:
    """The provider's metadata, by Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-bifrost",
        "name": "Bifrost",
        "description": "LLM batches behind the Bifrost AI gateway: rows in, rows out; a hook, a deferrable sensor and operators for its batch API.",
        "integrations": [
            {
                "integration-name": "Bifrost",
                "external-doc-url": "https://docs.getbifrost.ai/",
                "tags": ["ai", "service"],
            }
        ],
        "connection-types": [
            {
                "connection-type": "bifrost",
                "hook-class-name": "airflow_bifrost.hooks.bifrost.BifrostHook",
                "hook-name": "Bifrost",
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
                "conn-fields": CONN_FIELDS,
            }
        ],
        "hooks": [{"integration-name": "Bifrost", "python-modules": ["airflow_bifrost.hooks.bifrost"]}],
        "sensors": [{"integration-name": "Bifrost", "python-modules": ["airflow_bifrost.sensors.batch"]}],
        "operators": [{"integration-name": "Bifrost", "python-modules": ["airflow_bifrost.operators.batch"]}],
        "task-decorators": [
            {"name": "bifrost_batch", "class-name": "airflow_bifrost.decorators.batch.bifrost_batch_task"}
        ],
        "triggers": [{"integration-name": "Bifrost", "python-modules": ["airflow_bifrost.triggers.batch"]}],
        "cli": ["airflow_bifrost.doctor.cli.get_bifrost_cli_commands"],
        "config": {
            "bifrost": {
                "description": "Settings of the Bifrost provider.",
                "options": {
                    "progress_interval": {
                        "description": "Seconds between two updates of the `progress` XCom of a waiting task, at least.",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": "30",
                        "default": "60",
                    },
                    "max_in_flight": {
                        "description": "How many requests the waits of a triggerer have on their way at a time, for each connection.",
                        "version_added": "0.1.0",
                        "type": "integer",
                        "example": "16",
                        "default": "8",
                    },
                    "poll_interval": {
                        "description": "Seconds between two looks at a batch, where a task does not say.",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": "120",
                        "default": "60",
                    },
                    "connection_ttl": {
                        "description": (
                            "Seconds after which the waits of a triggerer look their connection up again. A refused token makes"
                            " them do so at once."
                        ),
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": "60",
                        "default": "300",
                    },
                    "coalesce": {
                        "description": (
                            "Whether the waits of a triggerer look at pages of the list of batches, a hundred at a time, instead"
                            " of at each batch, where that pays."
                        ),
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": "False",
                        "default": "True",
                    },
                    "state_path": {
                        "description": (
                            "Where tasks keep what must survive a retry (deadlines, what was submitted), as a URI that"
                            " ObjectStoragePath takes. Used only before Airflow 3.3, which keeps it itself. Empty: each retry"
                            " has the whole timeout again, BatchRunOperator keeps what it has submitted beside its output,"
                            " and BatchSubmitOperator has nothing but the gateway's list."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://aws_default@bucket/airflow-bifrost",
                        "default": "",
                    },
                },
            }
        },
    }
