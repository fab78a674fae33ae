"""Azure OpenAI as it looks through the gateway."""

from __future__ import annotations

import uuid

from airflow_bifrost.testing.provider_answers import ProviderAnswered
from airflow_bifrost.testing.providers.openai import OpenAI, answered


class Azure(OpenAI):
    """Azure OpenAI."""

    name = "azure"
    label = "Azure"
    upload_status = "pending"

    def new_batch_id(self) -> str:
        return f"batch_{uuid.uuid4()}"

    def new_file_id(self, filename: str, form: dict[str, str]) -> str:
        return f"file-{uuid.uuid4().hex}"

    def own_batch_id(self, segment: str, *, native: bool) -> str:
        return segment

    def no_batch(self, own: str) -> ProviderAnswered:
        return answered(404, {"error": {"code": "NotFound", "message": f"The batch {own} was not found."}})
