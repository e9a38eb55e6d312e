"""Themes: the shipped TOML files, their loader, and drawing in ASCII."""
