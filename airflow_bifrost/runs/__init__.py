"""Rows in, rows out: ``state`` decides what a run does next, ``driver`` does it."""
