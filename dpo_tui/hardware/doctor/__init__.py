"""Checks of this machine, each with the command that mends what it finds."""
