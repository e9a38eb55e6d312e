"""Numbers as people write them. Standard library only."""


def figure(value: float) -> str:
    """A setting or threshold in its shortest form: 0.1, 2, 5e-7 (where Python writes 5e-07)."""
    return f"{value:g}".replace("e-0", "e-")
