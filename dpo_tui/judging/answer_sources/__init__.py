"""Where sampled answers come from: a model on this machine, or an OpenAI-compatible endpoint."""
