"""Spending money exactly once: rows become request lines within the provider's limits."""
