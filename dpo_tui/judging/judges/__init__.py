"""Judges behind one interface: a program, a reward model, a run's own reward, a model here or at an endpoint."""
