"""AWS Bedrock: IDs are base64 of the job's ARN, results are in S3, and ``PartiallyCompleted`` arrives as ``failed``."""

from __future__ import annotations

import base64
import binascii
import re

from airflow_bifrost.providers.base import (
    MB,
    FullQueue,
    Limits,
    ListBehavior,
    ListedCounts,
    Provider,
    ResultLocation,
    StoredResults,
    says,
)
from airflow_bifrost.providers.forms import LineForm, PromptForm, text_of
from airflow_bifrost.providers.openai import messages


def job_id(batch_id: str) -> str:
    """The last part of the job's ARN: the only form of the ID that the native routes pass on to AWS unchanged.

    :param batch_id: the ARN, or base64 of it.
    """
    if batch_id.startswith("arn:"):
        return _last_part(batch_id)
    try:
        arn = base64.b64decode(batch_id, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return batch_id
    return _last_part(arn) if arn.startswith("arn:") else batch_id


def _last_part(arn: str) -> str:
    """The last part of an ARN. The gateway returns an ARN as it was requested, so its slash may be encoded."""
    return re.split("/|%2[Ff]", arn)[-1]


# The members that hold the prompt, in any model's form of a body.
CONTENT = (
    "messages",
    "prompt",
    "inputText",
    "inputImage",
    "input",
    "inputs",
    "texts",
    "images",
    "taskType",
    "text_prompts",
)

PROVIDER = Provider(
    name="bedrock",
    # 100 to 50,000 records in a file of at most 1 GB. These are defaults by model, and an account may have others:
    # https://docs.aws.amazon.com/general/latest/gr/bedrock.html#limits_bedrock
    limits=Limits(rows=50_000, bytes=1_000 * MB, min_rows=100),
    # `recordId` is a string: https://docs.aws.amazon.com/bedrock/latest/userguide/batch-inference-data.html
    lines=LineForm(id="recordId", body="modelInput", envelope=False, names_model=False),
    # Each model has its own form of body: https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html
    prompts={None: PromptForm(messages, CONTENT)},
    schema=None,  # each model has its own way to ask
    needs_model=True,
    # Gateway 1.4.19, recorded: `modelId` is `<provider>/<model>`, with a provider that governance picks from the key's provider configs. 1.5.16,
    # recorded, passes the model on as given. That AWS refuses such a model is an inference.
    refused_create=(
        "If AWS does not know the model: gateways before 1.5 prefix it (`bedrock/<model>`) if the connection's virtual key has provider configs."
        " Use a virtual key without provider configs, or upgrade the gateway."
    ),
    listing=ListBehavior(pages=False, counts=ListedCounts.NOWHERE),  # gateway 1.4.19 and 1.5.16, recorded
    results=ResultLocation.OBJECT_STORAGE,
    # Below the prefix, AWS writes the results of each job into a folder of that job. One prefix may hold many jobs:
    # https://docs.aws.amazon.com/bedrock/latest/userguide/batch-inference-results.html
    stored=StoredResults(
        scheme="s3",
        file=re.compile(r".*\.jsonl\.out"),
        in_job_folder=True,
        folder=lambda create: text_of(create.get("output_s3_uri")),
    ),
    failed_hides_results=True,
    full_queues=(
        # ServiceQuotaExceededException, 400, "The number of requests exceeds the service quota. Resubmit your request later.":
        # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_CreateModelInvocationJob.html
        # Inferred: the gateway passes on either the name (which AWS usually sends in a header) or the documented message.
        FullQueue(where="create", statuses=frozenset({400}), word="ServiceQuotaExceededException"),
        FullQueue(where="create", statuses=frozenset({400}), message=says("exceeds the service quota")),
    ),
    native_id=job_id,
)
