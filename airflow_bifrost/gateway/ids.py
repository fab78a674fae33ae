"""Checks which IDs of batches and files may go into a path."""

from __future__ import annotations

import re

MAX_ID_LENGTH = 1024


def checked_id(value: str, what: str = "batch_id") -> str:
    """``value`` if it is an ID that reaches the gateway as one path segment.

    The gateway decodes the segment, and for some providers it builds another path from it. A slash or ``..`` would make a different
    request to the provider with the gateway's own key, and ``%ff`` ends the gateway's process.

    :raises ValueError: the ID is invalid; the message says why.
    """
    if not isinstance(value, str):
        raise ValueError(f"{what} must be a string, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{what} is empty. Did the task that produces it push one?")
    if len(value) > MAX_ID_LENGTH:
        raise ValueError(f"{what} has {len(value)} characters. An ID has at most {MAX_ID_LENGTH}.")
    if wrong := re.search(r"[^\x21-\x7e]|[/\\?#%]|\.\.|^\.$", value):
        hint = ""
        if value.startswith("arn:"):
            hint = " For Bedrock, use the ID that the gateway returned (base64 of the ARN)."
        elif value.startswith("s3://"):
            hint = " An s3:// address is not a file ID. Read the file from S3."
        elif value.startswith("gs://"):
            hint = " For Vertex, use base64url of the address of one file, without padding."
        raise ValueError(
            f"{what} {value[:80]!r} contains {wrong.group()!r}, which no ID on the gateway may have.{hint}"
        )
    return value
