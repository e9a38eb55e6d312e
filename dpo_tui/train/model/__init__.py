"""Load models, tokenizers and adapters."""
