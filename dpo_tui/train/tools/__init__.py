"""Children that need the torch stack; :mod:`dpo_tui.torch_tool` starts them and says how to talk with them."""
