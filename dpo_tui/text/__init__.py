"""Text for terminals: printable text, numbers, durations."""
