"""dpo-tui: align a language model with your own preferences, from a terminal."""

__version__ = "0.1.0"
