"""Export of a run's result: merged weights and their check, model card, training curves, serving commands.

Four modules merge: :mod:`adapted_layers` knows what an adapter changes and merges one layer, :mod:`merge_weights` goes
through the base's shards, :mod:`merge_check` compares the result with base + adapter, and :mod:`merged_model` writes
the whole model folder and refuses one that does not agree.
"""
