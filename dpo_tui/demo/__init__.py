"""The embedded default: a tiny chat model, preference pairs for it, and the config that trains it in half a minute."""
