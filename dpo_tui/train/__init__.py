"""The worker: the only code that imports torch, transformers, trl, peft and datasets."""
