"""How much one batch of a provider may hold, and what its ids may look like, by the provider's own words.

"MB" and "GB" are read as 10^6 and 10^9 bytes: the smaller reading is right by either.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace

UNLIMITED = sys.maxsize
MB = 10**6
GATEWAY_BYTES = 100 * 2**20  # the gateway's `client.max_request_body_size_mb` is 100 unless it is set
FORM_ROOM = 64 * 2**10  # bytes of a request beside the rows: the form's other fields, or the other members of a create


@dataclass(frozen=True, slots=True)
class Limits:
    """What one batch may hold.

    :param rows: most rows of one batch. A row of embeddings counts as many as it has inputs.
    :param bytes: most bytes of one input file; with ``inline``, of the rows in the create call.
    :param min_rows: fewest rows of one batch.
    :param one_model: all rows must name the same model.
    :param inline: the create call takes the rows themselves, not the id of a file.
    :param custom_id: matches (from end to end) the ids that the provider takes.
    :param custom_id_words: the same for people, as in "a custom_id must be ...".
    """

    rows: int
    bytes: int
    min_rows: int
    one_model: bool
    inline: bool
    custom_id: re.Pattern[str]
    custom_id_words: str


_ANY_TEXT = re.compile(r".+", re.DOTALL)
_ANY_TEXT_WORDS = "a text that is not empty"

LIMITS = {
    # 50,000 requests, 200 MB, one model, `custom_id` a unique string; 50,000 embedding inputs in all:
    # https://platform.openai.com/docs/guides/batch and https://platform.openai.com/docs/api-reference/batch/create
    "openai": Limits(
        rows=50_000,
        bytes=200 * MB,
        min_rows=0,
        one_model=True,
        inline=False,
        custom_id=_ANY_TEXT,
        custom_id_words=_ANY_TEXT_WORDS,
    ),
    # "Max input file size 200 MB": https://learn.microsoft.com/azure/ai-services/openai/quotas-limits
    # that page has 100,000 requests per file; OpenAI's 50,000 are taken here too, which no deployment refuses
    # one deployment for a file: https://learn.microsoft.com/azure/ai-services/openai/how-to/batch
    "azure": Limits(
        rows=50_000,
        bytes=200 * MB,
        min_rows=0,
        one_model=True,
        inline=False,
        custom_id=_ANY_TEXT,
        custom_id_words=_ANY_TEXT_WORDS,
    ),
    # "100,000 Message requests or 256 MB in size": https://platform.claude.com/docs/en/build-with-claude/batch-processing
    # `custom_id` ^[a-zA-Z0-9_-]{1,64}$: https://platform.claude.com/docs/en/api/messages/batches/create
    "anthropic": Limits(
        rows=100_000,
        bytes=256 * MB,
        min_rows=0,
        one_model=False,
        inline=True,
        custom_id=re.compile(r"[a-zA-Z0-9_-]{1,64}"),
        custom_id_words="1 to 64 of the characters a-z, A-Z, 0-9, _ and -",
    ),
    # "Input file size limit: 2GB", no number of rows: https://ai.google.dev/gemini-api/docs/rate-limits
    # `key` is the user's own; the model is the batch's, not the row's: https://ai.google.dev/gemini-api/docs/batch-api
    "gemini": Limits(
        rows=UNLIMITED,
        bytes=2_000 * MB,
        min_rows=0,
        one_model=False,
        inline=False,
        custom_id=_ANY_TEXT,
        custom_id_words=_ANY_TEXT_WORDS,
    ),
    # 100 to 50,000 records in a file of at most 1 GB (defaults, by model; an account may have others):
    # https://docs.aws.amazon.com/general/latest/gr/bedrock.html#limits_bedrock
    # `recordId` is a string: https://docs.aws.amazon.com/bedrock/latest/userguide/batch-inference-data.html
    "bedrock": Limits(
        rows=50_000,
        bytes=1_000 * MB,
        min_rows=100,
        one_model=False,
        inline=False,
        custom_id=_ANY_TEXT,
        custom_id_words=_ANY_TEXT_WORDS,
    ),
}

_STRICTEST = replace(
    LIMITS["anthropic"],
    rows=min(limits.rows for limits in LIMITS.values()),
    bytes=min(limits.bytes for limits in LIMITS.values()),
    one_model=True,
    inline=False,
)


def limits_of(provider: str, gateway_bytes: int = GATEWAY_BYTES) -> Limits:
    """The limits of a provider behind a gateway.

    A provider that is not in the table takes the strictest of each: the fewest rows and bytes, the narrowest ids, one model. It is
    not held to a fewest number of rows, which is no protection.

    :param gateway_bytes: the largest request body that the gateway takes. It closes the connection on a larger one, which looks like
        an outage; so no part gets larger than this, less some room for the rest of the request. To have larger parts, raise
        ``client.max_request_body_size_mb`` (100 by default) in the gateway's configuration, and give its new value here, in bytes.
    :raises ValueError: ``gateway_bytes`` leaves no room for rows.
    """
    if gateway_bytes <= FORM_ROOM:
        raise ValueError(
            f"gateway_bytes is {gateway_bytes:,}, and the form around the rows takes up to {FORM_ROOM:,} bytes"
        )
    limits = LIMITS.get(provider, _STRICTEST)
    own = limits.bytes - FORM_ROOM if limits.inline else limits.bytes
    return replace(limits, bytes=min(own, gateway_bytes - FORM_ROOM))
