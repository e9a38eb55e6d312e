"""The checks of a dataset: one small function each, registered under its id."""
