"""TRL's trainers: arguments, datasets, token cache."""
