"""Rows become request lines within the provider's limits, and each batch is submitted exactly once."""
