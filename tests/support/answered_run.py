"""A run that is done and whose base and tuned models have answered the prompts of its judging; no model is loaded."""

import json
from pathlib import Path

from dpo_tui.config.files import from_values
from dpo_tui.config.toml_text import to_toml
from dpo_tui.judging.judging_session import Session
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder


def answered_run(pairs: Path, *, same: int = 0, count: int = 20) -> RunFolder:
    """A run that is done, whose models have answered: `tuned n` and `base n`, the first few alike."""
    config = from_values({"model_name": "m", "dataset": str(pairs), "eval_split": 0.5})
    folder = store.create(to_toml(config), name="run", devices=[])
    folder.adapter.mkdir()
    session = Session.open(folder, count=count, seed="7")
    with (folder.path / "judge" / "answers.jsonl").open("w") as file:
        for number, key in enumerate(session.unanswered()):
            for who in ("base", "tuned"):
                text = f"same {number}" if number < same else f"{who} {number}"
                file.write(json.dumps({"id": key, "who": who, "answer": text}) + "\n")
    return folder
