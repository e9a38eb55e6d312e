"""Scan a whole dataset: chunks, checks, counts, the report, the index of its rows."""
