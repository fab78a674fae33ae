"""Providers whose batches hold a few rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_bifrost import providers


def with_rows(name: str, rows: int) -> providers.Provider:
    """The provider, with batches of at most so many rows, and no minimum."""
    provider = providers.get(name)
    return replace(provider, limits=replace(provider.limits, rows=rows, min_rows=0))


def small_batches(monkeypatch: pytest.MonkeyPatch, *names: str, rows: int = 3) -> None:
    """Let each batch of these providers hold at most so many rows."""
    for name in names:
        monkeypatch.setitem(providers.ALL, name, with_rows(name, rows))
