"""Google Vertex AI, which gateways support since version 1.5. A batch's ID is base64url of the job's resource name, its results are in
Google Cloud Storage, and ``PARTIALLY_SUCCEEDED`` arrives as ``completed``."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from airflow_bifrost.providers import gemini
from airflow_bifrost.providers.base import (
    MB,
    Limits,
    ListBehavior,
    ListedCounts,
    Provider,
    ResultLocation,
    StoredResults,
)
from airflow_bifrost.providers.forms import IdRule, LineForm, text_of


def file_id(uri: str) -> str:
    """The ID of a file in Google Cloud Storage: base64url of its URI, without padding (gateway 1.5.16, recorded)."""
    return base64.urlsafe_b64encode(uri.encode()).decode().rstrip("=")


def output_folder(create: Mapping[str, Any]) -> str | None:
    """The folder of the results, from the additional members of a create call."""
    folder = create.get("output_folder")
    return text_of(folder.get("url")) if isinstance(folder, Mapping) else None


def job_number(batch_id: str) -> str:
    """The last part of the job's resource name, which the gateway's native routes take.

    :param batch_id: the resource name, as the native routes answer, or base64url of it.
    """
    if batch_id.startswith("projects/"):
        return batch_id.rpartition("/")[2]
    try:
        name = base64.urlsafe_b64decode(batch_id + "=" * (-len(batch_id) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        return batch_id
    return name.rpartition("/")[2] if name.startswith("projects/") else batch_id


PROVIDER = Provider(
    name="vertex",
    # 200,000 requests in a file of at most 1 GB:
    # https://docs.cloud.google.com/vertex-ai/generative-ai/docs/multimodal/batch-prediction-gemini
    limits=Limits(rows=200_000, bytes=1_000 * MB),
    # The gateway passes an uploaded file on unchanged, so its lines have Google's own form. Google keeps no ID of a row, but returns the
    # request. So the ID is a label of the request: the one that the gateway sets for inline rows, and reads from results (1.5.16, recorded).
    # A label's value has at most 63 lower-case letters, digits, underscores and dashes:
    # https://docs.cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/projects.locations.endpoints/generateContent
    custom_ids=IdRule(re.compile(r"[a-z0-9_-]{1,63}"), "1 to 63 of the characters a-z, 0-9, _ and -"),
    lines=LineForm(label="bifrost_custom_id", body="request", envelope=False, names_model=False),
    prompts=gemini.PROMPTS,
    # The same API, whose GenerationConfig is also here:
    # https://docs.cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/GenerationConfig
    schema=gemini.PROVIDER.schema,
    needs_model=True,  # gateway 1.5.16, recorded
    listing=ListBehavior(pages=True, counts=ListedCounts.IN_LIST),  # gateway 1.5.16, recorded
    results=ResultLocation.OBJECT_STORAGE,
    # ``output_file_id`` is a folder of the job: gateway 1.5.16, recorded
    stored=StoredResults(
        scheme="gs",
        file=re.compile(r"predictions.*\.jsonl"),
        in_job_folder=False,
        folder=output_folder,
        # gateway 1.5.16, recorded: its native results route reads all such files, and its file routes each of them
        usual_file="predictions.jsonl",
        file_id=file_id,
    ),
    completed_hides_failures=True,
    native_id=job_number,
)
