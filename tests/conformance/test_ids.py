"""Which batch a provider is asked for: the local gateway makes of a request's path what the real one made of it."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote

import pytest

from airflow_bifrost.testing.providers import PROVIDERS, Bedrock

from .recordings import RECORDINGS, Recording, ids

# Where each provider has its batches, and what follows the id when one is cancelled.
FOLDERS = {
    "openai": "/v1/batches/",
    "azure": "/openai/batches/",
    "anthropic": "/v1/messages/batches/",
    "gemini": "/v1beta/batches/",
    "bedrock": "/model-invocation-job/",
}
CANCELS = re.compile(r"(/cancel|/stop|:cancel)$")
SEGMENT = re.compile(r"/batches/(?P<segment>.*?)(/cancel|/results)?$")


def asked_for_one(recording: Recording) -> bool:
    return bool(recording.provider_asked and SEGMENT.search(recording.request["path"]))


@pytest.mark.parametrize("recording", [r for r in RECORDINGS if asked_for_one(r)], ids=ids)
def test_the_id_that_the_provider_is_asked_for_is_the_recorded_one(recording: Recording) -> None:
    path = recording.request["path"]
    match = SEGMENT.search(path)
    assert match
    native = not path.startswith("/openai")
    own = PROVIDERS[recording.provider].own_batch_id(match["segment"], native=native)
    if recording.provider == "bedrock" and native:
        own = own.removeprefix(Bedrock.ARN)  # AWS takes a bare job id, and the local gateway plays AWS
    asked = unquote(CANCELS.sub("", recording.provider_asked))
    assert posixpath.normpath(asked) == posixpath.normpath(FOLDERS[recording.provider] + own)
