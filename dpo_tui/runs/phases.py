"""The phases of a run, as the worker reports them and screens name them."""

# In their order. The five steps are load-model, add-adapters, load-pairs, train and save; the others are parts of
# their neighbours that may take long enough to deserve a name.
PHASES = {
    "starting": "Starting",
    "load-model": "Loading the model",
    "add-adapters": "Adding LoRA adapters",
    "load-pairs": "Loading the pairs",
    "reference": "Scoring the pairs with the reference",
    "evaluate": "Evaluating on held-out pairs",
    "sample": "Answering the sample prompts",
    "train": "Training",
    "save": "Saving",
    "done": "Done",
}
