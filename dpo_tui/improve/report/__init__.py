"""The report of an improvement: its figures, and the figures as Markdown and as HTML."""
