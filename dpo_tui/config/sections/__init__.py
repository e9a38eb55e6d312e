"""The tables of a config file, one module each."""
