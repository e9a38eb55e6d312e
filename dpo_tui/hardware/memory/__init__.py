"""Estimate of the memory of a run, and the config changes that make it fit."""
