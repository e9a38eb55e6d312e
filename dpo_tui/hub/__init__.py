"""The Hugging Face hub: its cache, datasets, tokenizer files, uploads."""
