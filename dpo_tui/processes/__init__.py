"""Child processes of ours: their environment, the JSON lines they speak, their end."""
