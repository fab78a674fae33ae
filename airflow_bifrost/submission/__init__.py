"""Spending money exactly once: rows become request lines within the upstream's limits."""
