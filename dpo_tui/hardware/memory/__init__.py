"""The memory estimate of a run, and what makes it fit."""
