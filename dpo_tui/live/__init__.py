"""What the screens show, read from files: feeds of runs, the list of runs, GPUs, preferences. No Textual."""
