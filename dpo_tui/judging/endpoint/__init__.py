"""Client of an OpenAI-compatible endpoint: retries, bounded concurrency, replies checked."""
