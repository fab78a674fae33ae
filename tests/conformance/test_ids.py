"""Which batch a provider is asked for: the local gateway makes of a request's path what the real one made of it."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote

from airflow_bifrost.testing.providers import PROVIDERS, Bedrock

from .recordings import RECORDINGS, Recording, differing

# Where each provider has its batches, and what follows the id when one is cancelled.
FOLDERS = {
    "openai": "/v1/batches/",
    "azure": "/openai/v1/batches/",  # up to 1.4: /openai/batches/
    "anthropic": "/v1/messages/batches/",
    "gemini": "/v1beta/batches/",
    "bedrock": "/model-invocation-job/",
    "vertex": "/v1/",
}
# 1.5 decodes the ID once, and so passes on the ARN. The local gateway answers like 1.4 here, which does not decode it.
ONLY_1_5 = {"1.5.16/bedrock/native_encoded_arn"}
# What the gateway decoded to bytes that are not UTF-8.
RUBBISH = {"1.5.16/vertex/id_bare_number", "1.5.16/vertex/id_nonsense"}
CANCELS = re.compile(r"(/cancel|/stop|:cancel)$")
SEGMENT = re.compile(r"/batches/(?P<segment>.*?)(/cancel|/results)?$")


def asked_for_one(recording: Recording) -> bool:
    return bool(
        recording.provider in PROVIDERS and recording.provider_asked and SEGMENT.search(recording.request["path"])
    )


def test_the_id_that_the_provider_is_asked_for_is_the_recorded_one() -> None:
    def compare(recording: Recording) -> tuple[str, str]:
        path = recording.request["path"]
        match = SEGMENT.search(path)
        assert match
        native = not path.startswith("/openai")
        own = PROVIDERS[recording.provider].own_batch_id(match["segment"], native=native)
        if recording.provider == "bedrock" and native:
            own = own.removeprefix(Bedrock.ARN)  # AWS accepts a bare job ID, and the local gateway answers like AWS
        asked = unquote(CANCELS.sub("", recording.provider_asked)).replace("/openai/batches/", FOLDERS["azure"])
        asked = asked.replace("/example-project/", "/1234567890/")  # of Vertex, where a project has a name and a number
        if recording.provider == "vertex":
            own = unquote(own)  # so is what was asked
        return posixpath.normpath(asked), posixpath.normpath(FOLDERS[recording.provider] + own)

    recordings = [r for r in RECORDINGS if asked_for_one(r) and r.title not in ONLY_1_5 | RUBBISH]
    assert differing(recordings, compare) == {}
