"""Advice: rules on the metrics, settings and receipt of a run, and on configs before it."""
