"""Airflow provider for the batch API of the Bifrost AI gateway.

Public names load their module when they are first used, so that a DAG file pays only for what it names.
"""

from __future__ import annotations

__version__ = "0.1.0"
