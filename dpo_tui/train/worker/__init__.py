"""The worker process of a run: phases, journal, callbacks, checkpoints, failures."""
