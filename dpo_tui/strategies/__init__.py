"""What a run trains on and towards: one description for each training strategy, without torch."""
