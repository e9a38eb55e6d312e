"""Chat templates and token counts, without transformers."""
