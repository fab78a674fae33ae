"""What Airflow learns about this package, through the entry point ``apache_airflow_provider``.

Every Airflow command loads this module, so it imports nothing.
"""

from __future__ import annotations

from typing import Any

CONN_FIELDS: dict[str, dict[str, Any]] = {
    "provider": {
        "label": "Provider",
        "description": "The model provider for tasks that do not set one: openai, azure, anthropic, gemini, bedrock or vertex. Default: openai.",
        "schema": {"type": ["string", "null"]},
    },
    "path_prefix": {
        "label": "Path prefix",
        "description": "The path of the OpenAI-compatible API below the base URL. Default: /openai.",
        "schema": {"type": ["string", "null"]},
    },
    "timeout": {
        "label": "Timeout (seconds)",
        "description": "How long one request may take. Default: 60. The gateway waits for the provider 30 s (1.4) or 300 s (since 1.5), per key.",
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
        "description": "The size of a client's connection pool. Default: 16.",
        "schema": {"type": ["integer", "null"], "minimum": 1},
    },
    "max_in_flight": {
        "label": "Concurrent requests",
        "description": "How many requests the waiting tasks of a triggerer may have in flight in total. Default: [bifrost] max_in_flight.",
        "schema": {"type": ["integer", "null"], "minimum": 1},
    },
    "poll_interval": {
        "label": "Poll interval (seconds)",
        "description": "The time between two polls of a batch, for tasks that set none. Default: [bifrost] poll_interval.",
        "schema": {"type": ["integer", "null"], "minimum": 1},
    },
    "connection_ttl": {
        "label": "Connection lifetime (seconds)",
        "description": "How long waiting tasks use this connection before they look it up again. Default: [bifrost] connection_ttl.",
        "schema": {"type": ["integer", "null"], "minimum": 1},
    },
    "coalesce": {
        "label": "Coalesce",
        "description": "true or false: poll many batches through pages of the list if that takes fewer requests. Default: [bifrost] coalesce.",
        "schema": {"type": ["string", "null"]},
    },
    "retry_budget": {
        "label": "Retry budget (seconds)",
        "description": "How long a failed call is retried. 0: never. Default: [bifrost] retry_budget.",
        "schema": {"type": ["integer", "null"], "minimum": 0},
    },
    "settle_time": {
        "label": "Settle time (seconds)",
        "description": "How long the gateway may repeat a create that got no answer. Default: [bifrost] settle_time.",
        "schema": {"type": ["integer", "null"], "minimum": 0},
    },
    "transport": {
        "label": "Transport",
        "description": "The HTTP library of triggers: aiohttp (default) or httpx.",
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
    """The metadata of this Airflow provider package, as Airflow's ``provider_info.schema.json`` defines it."""
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
                "description": "Settings of the Airflow provider package for Bifrost.",
                "options": {
                    "progress_interval": {
                        "description": "The minimum number of seconds between two updates of a waiting task's `progress` XCom.",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": "30",
                        "default": "60",
                    },
                    "max_in_flight": {
                        "description": "How many requests the waiting tasks of a triggerer may have in flight in total, per connection.",
                        "version_added": "0.1.0",
                        "type": "integer",
                        "example": "16",
                        "default": "8",
                    },
                    "poll_interval": {
                        "description": "Seconds between two polls of a batch, for tasks that set none.",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": "120",
                        "default": "60",
                    },
                    "connection_ttl": {
                        "description": (
                            "Seconds for which waiting tasks use a connection before they look it up again. A refused token makes"
                            " them look it up at once."
                        ),
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": "60",
                        "default": "300",
                    },
                    "retry_budget": {
                        "description": (
                            "Seconds within which a task retries a call that failed, with backoff. Creating a batch is retried only if"
                            " the request certainly did not reach the provider. 0: never retry."
                        ),
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": "60",
                        "default": "300",
                    },
                    "settle_time": {
                        "description": (
                            "Seconds for which the gateway may still repeat a create that got no answer. A task decides whether it"
                            " submitted a batch only after this time. Set it to 600 * (1 + max_retries of the gateway's provider)."
                        ),
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": "1800",
                        "default": "600",
                    },
                    "coalesce": {
                        "description": (
                            "Whether the waiting tasks of a triggerer poll many batches through pages of the list, a hundred batches at"
                            " a time, if that takes fewer requests."
                        ),
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": "False",
                        "default": "True",
                    },
                    "deployment": {
                        "description": (
                            "Name of this Airflow deployment, which goes into the tag of each batch that it submits. Set it if several"
                            " deployments share a provider account, so that none adopts or cancels another's batch. Empty: an ID that is"
                            " derived from Airflow's Fernet key and URLs."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "production",
                        "default": "",
                    },
                    "state_path": {
                        "description": (
                            "Where tasks store what must survive a retry (deadlines, what was submitted): a URI that ObjectStoragePath"
                            " opens. Used only before Airflow 3.3; later versions store it themselves. If it is empty, each retry gets the"
                            " whole timeout again, BatchRunOperator keeps its record next to its output, and BatchSubmitOperator can only"
                            " search the gateway's list."
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
