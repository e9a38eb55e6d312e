"""Config files of other tools, converted to our settings with the outcome of every key."""
