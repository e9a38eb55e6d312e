"""Dimensions of models, from their ``config.json`` or the shipped table, and the recommended models."""
