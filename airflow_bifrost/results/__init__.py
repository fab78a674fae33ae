"""Result rows: in the same form for every provider, one for each row of the input, in the order of the input.

``collect`` reads all results of a batch from its ``source``. ``parse`` turns a line of any provider into a row, and ``writer`` joins these
rows with the input. ``tally`` counts them, and ``reader`` reads the file that was written.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_bifrost.results.reader import read_rows, to_arrow, to_pandas

__all__ = ["read_rows", "to_arrow", "to_pandas"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("airflow_bifrost.results.reader"), name)


def __dir__() -> list[str]:
    return __all__
