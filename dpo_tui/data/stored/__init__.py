"""Rows of a large dataset as they were read, in a memory-mapped Arrow file of the data cache."""
