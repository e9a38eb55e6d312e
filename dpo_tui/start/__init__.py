"""Checks before a run starts and the one function that prepares a run; stages, the model check, providers."""
