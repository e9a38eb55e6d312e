"""Ways to start a run's supervisor and worker (one process here, several ranks, a batch system): one module each."""
