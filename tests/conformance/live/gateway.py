"""The gateway that ``make test-live`` checks."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.config import GatewayConfig


@dataclass(frozen=True)
class Live:
    """A gateway that is not ours.

    :param output: folder in the provider's object store for the results of submitted batches.
    :param role: the role that Bedrock takes for them.
    :param is_bifrost: whether it says which version of Bifrost it is.
    """

    config: GatewayConfig
    client: GatewayClient
    provider: str
    model: str | None
    output: str = ""
    role: str = ""
    is_bifrost: bool = True

    def get(self, path: str) -> httpx.Response:
        """A GET that no client makes."""
        headers = {"authorization": f"Bearer {self.config.token}"} if self.config.token else {}
        verify = self.config.tls()
        return httpx.request(
            "GET",
            f"{self.config.root}{path}",
            headers=headers,
            verify=verify,
            follow_redirects=False,
            timeout=self.config.timeout,
        )
