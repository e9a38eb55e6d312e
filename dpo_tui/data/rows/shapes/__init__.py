"""The shapes of preference data, one module a family; `dpo_tui.data.rows.column_shapes` is their registry."""
