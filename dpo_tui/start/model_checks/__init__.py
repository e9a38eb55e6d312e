"""Checks of a model folder before a run starts, without torch: configuration, weights, tokenizer, adapter."""
