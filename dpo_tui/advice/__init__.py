"""Rules that read metrics or a config and answer in words."""
