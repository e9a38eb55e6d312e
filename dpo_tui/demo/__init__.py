"""The shipped demo: a tiny chat model, preference pairs for it, and a config that trains it in half a minute."""
