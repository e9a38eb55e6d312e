"""What must be true before a run starts: checks, stages, the one function that prepares a run."""
