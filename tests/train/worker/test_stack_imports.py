"""Imports of the training stack: which of them are skipped."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.train.worker.stack_imports import skip_bitsandbytes
from tests.support.training import make_config


@pytest.mark.parametrize(
    ("changes", "model_config", "skipped"),
    [
        ({}, {"model_type": "llama"}, True),
        ({"use_4bit": True}, {"model_type": "llama"}, False),
        ({"model_init": {"quantization_config": {"load_in_8bit": True}}}, {"model_type": "llama"}, False),
        ({"ref_model": "org/of-the-hub"}, {"model_type": "llama"}, False),
        ({"optim": "paged_adamw_8bit"}, {"model_type": "llama"}, False),
        ({}, {"quantization_config": {"load_in_4bit": True}}, False),
        ({}, None, False),
    ],
)
def test_bitsandbytes_is_not_imported_only_where_nothing_can_need_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], *, model_config: Any, skipped: bool
) -> None:
    modules = {name: module for name, module in sys.modules.items() if name.split(".")[0] != "bitsandbytes"}
    monkeypatch.setattr(sys, "modules", modules)
    if model_config is not None:
        (tmp_path / "config.json").write_text(json.dumps(model_config))
    config = make_config(tmp_path, tmp_path / "pairs.jsonl", **changes)
    assert skip_bitsandbytes(config) is skipped
    assert ("bitsandbytes" in modules) is skipped
