"""Read, recognise, check and repair preference data."""
