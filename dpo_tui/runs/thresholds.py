"""Values above which a metric means something, for the worker that reports it and the advice that explains it."""

KL_REASONABLE = 10.0
"""Nats an answer: TRL's guidance for PPO calls a KL divergence to the reference below this reasonable."""

SPIKE = 10.0
"""A gradient norm of 0.01 to 10 is usual. A spike is above this, and this many times the median of its predecessors."""
SPIKE_PREDECESSORS = 20
"""How many steps before it a spike is compared with."""
