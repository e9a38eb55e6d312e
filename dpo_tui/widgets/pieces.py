"""What a row of text is made of; without Textual, so that pure modules can make rows."""

Row = list[tuple[str, str]]
"""Pieces of (text, role); the text is printable and never markup, the role names a component class."""
