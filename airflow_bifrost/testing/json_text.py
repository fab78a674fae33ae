"""Reads JSON from the network, which may be nested to any depth."""

from __future__ import annotations

import json
from typing import Any


def parsed(text: bytes | str) -> Any:
    """``text`` as JSON types.

    :raises ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
