"""Is the tuned model better? A person, or a model, judges answers side by side without knowing whose they are."""
