"""Rows of three plain texts, read by column: most files of a million rows are like that."""
