"""``python -m dpo_tui``: the command, where its script is not on the PATH."""

from dpo_tui.cli import main

main()
