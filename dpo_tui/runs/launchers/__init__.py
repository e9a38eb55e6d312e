"""How the worker of a run starts, is signalled, and how its end is known: one module for each way."""
