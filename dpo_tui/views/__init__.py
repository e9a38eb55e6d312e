"""What the app shows, as plain data read from files: runs, charts, datasets, plans. No Textual."""
