"""Providers: the libraries that train a run, each with its Python environment and what it needs of the machine."""
