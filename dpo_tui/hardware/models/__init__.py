"""The dimensions of models, from their config or from the shipped table."""
