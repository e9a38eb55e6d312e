"""Merge adapters, check the merge, write model cards."""
