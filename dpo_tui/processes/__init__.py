"""Child processes that run our own modules. Standard library only."""
