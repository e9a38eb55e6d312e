"""The steps of a round, each of which goes on where it was interrupted."""
