"""The config schema, its files and its dialects."""
