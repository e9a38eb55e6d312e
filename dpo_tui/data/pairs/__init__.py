"""The internal form of preference data, and the split into training and held-out pairs."""
