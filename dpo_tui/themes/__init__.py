"""Palettes and their loader."""
