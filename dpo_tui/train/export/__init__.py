"""Export of a run's result: merged weights and their check, model card, training curves, serving commands.

Three modules merge: :mod:`merge_weights` computes the merged tensors, :mod:`merged_model` writes the whole model folder
with them, :mod:`merge_check` compares the logits of that folder with base + adapter.
"""
