"""What the doctor asked a gateway, and what it answered: the input of all checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from airflow_bifrost import providers
from airflow_bifrost.exceptions import BifrostGatewayError
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.exchange import GatewayRequest, RawResponse
from airflow_bifrost.gateway.models import Batch, Health, Page

PROVIDERS = tuple(providers.ALL)
POLLS = 20
BIFROST = "bifrost"  # the type that a connection should have

Listed: TypeAlias = Page[Batch] | BifrostGatewayError


@dataclass(slots=True)
class Polls:
    """Polls, one after the other.

    :param batch_id: the batch that was retrieved, as a wait does; None: there is no batch, so a list of one was read instead.
    :param seconds: how long each successful poll took.
    :param errors: of the other polls.
    """

    batch_id: str | None
    seconds: list[float] = field(default_factory=list)
    errors: list[BifrostGatewayError] = field(default_factory=list)


@dataclass(slots=True)
class Evidence:
    """The answers. A value that is None, or missing in ``lists``, was not requested.

    :param conn_type: the type of the Airflow connection.
    :param ignored_port: the connection's port, if it is ignored because a URL in the host uses another one.
    :param answers: every raw answer, oldest first.
    :param asked_at: Unix seconds on this machine before and after the first call, which reads the gateway's health.
    :param version: None also if the gateway does not report it.
    :param lists: by provider, a page with one batch.
    :param without_token: the list of the connection's provider, read without a token.
    :param next_page: the second page of the connection's provider.
    """

    config: GatewayConfig
    conn_type: str = BIFROST
    ignored_port: int | None = None
    answers: list[tuple[GatewayRequest, RawResponse]] = field(default_factory=list)
    asked_at: tuple[float, float] | None = None
    health: Health | BifrostGatewayError | None = None
    version: str | None = None
    lists: dict[str, Listed] = field(default_factory=dict)
    without_token: Listed | None = None
    next_page: Listed | None = None
    polls: Polls | None = None

    @property
    def provider(self) -> str:
        """The connection's own provider."""
        return self.config.provider_for(None)

    @property
    def own(self) -> Listed | None:
        return self.lists.get(self.provider)

    @property
    def health_headers(self) -> Mapping[str, str]:
        raw = self.answer_about_health()
        return raw.headers if raw else {}

    def answer_about_health(self) -> RawResponse | None:
        return next((raw for request, raw in self.answers if request.path == "/health"), None)

    def first_answer_of_the_batch_api(self) -> RawResponse | None:
        return next((raw for request, raw in self.answers if request.prefixed), None)
