"""What is computed once or not at all, with the same result: shared prompts, sparse LM head, reference scores."""
