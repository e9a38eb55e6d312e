"""Work that is done once or not at all, with the same result: shared prompts, sparse LM head, reference cache."""
