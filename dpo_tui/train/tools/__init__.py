"""Children that need the torch stack; :mod:`dpo_tui.processes.torch_tool` starts them and documents the messages."""
