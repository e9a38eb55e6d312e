"""Where data lie and how their bytes become rows: files, archives, encodings, JSON and CSV."""
