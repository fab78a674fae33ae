"""Google Vertex AI, which gateways support since version 1.5. A batch's ID is base64url of the job's resource name, its results are in
Google Cloud Storage, and ``PARTIALLY_SUCCEEDED`` arrives as ``completed``."""

from __future__ import annotations

import base64
import binascii
import re

from airflow_bifrost.providers.base import (
    MB,
    Limits,
    ListBehavior,
    ListedCounts,
    Provider,
    ResultLocation,
    StoredResults,
)
from airflow_bifrost.providers.forms import ANY_ID, LineForm
from airflow_bifrost.providers.openai import PROMPTS


def job_number(batch_id: str) -> str:
    """The last part of the job's resource name, which the gateway's native routes take."""
    try:
        name = base64.urlsafe_b64decode(batch_id + "=" * (-len(batch_id) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        return batch_id
    return name.rpartition("/")[2] if name.startswith("projects/") else batch_id


PROVIDER = Provider(
    name="vertex",
    # 200,000 requests in a file of at most 1 GB:
    # https://docs.cloud.google.com/vertex-ai/generative-ai/docs/multimodal/batch-prediction-gemini
    # The model in the create call applies to all rows.
    limits=Limits(rows=200_000, bytes=1_000 * MB, one_model=True),
    # The gateway puts the custom ID of an inline row into the label `bifrost_custom_id`, but passes an uploaded file on unchanged. This
    # package writes OpenAI's lines, so upload a file in Vertex's own form and submit it with `input_file_id`.
    custom_ids=ANY_ID,
    lines=LineForm(),
    prompts=PROMPTS,
    schema=None,
    needs_model=True,  # gateway 1.5.16, recorded
    listing=ListBehavior(pages=True, counts=ListedCounts.IN_LIST),  # gateway 1.5.16, recorded
    results=ResultLocation.OBJECT_STORAGE,
    # ``output_file_id`` is a folder of the job: gateway 1.5.16, recorded
    stored=StoredResults(scheme="gs", file=re.compile(r"predictions.*\.jsonl"), in_job_folder=False),
    completed_hides_failures=True,
    native_id=job_number,
)
