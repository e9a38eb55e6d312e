"""Where the answers end with another token than those of the base, an export says so to what serves it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.train.export.end_tokens import add_end_tokens
from tests.support.training import finished_run

ROLE_END = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>\n{% endfor %}"
NO_END = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


def tokenizer_folder(folder: Path, template: str) -> Path:
    """A tokenizer whose EOS is `</s>` (2), with `<|im_end|>` (7) beside it."""
    folder.mkdir()
    tokens = {"2": {"content": "</s>", "special": True}, "7": {"content": "<|im_end|>", "special": True}}
    settings = {"eos_token": "</s>", "added_tokens_decoder": tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.mark.parametrize(
    ("template", "files", "expected"),
    [
        (ROLE_END, {"generation_config.json": {"eos_token_id": 2, "temperature": 0.6}}, [7, 2]),
        (ROLE_END, {"generation_config.json": {"eos_token_id": [2, 7]}}, None),
        (ROLE_END, {"config.json": {"eos_token_id": 2}}, [7, 2]),
        (ROLE_END, {"config.json": {"text_config": {"eos_token_id": [3]}}}, [7, 2, 3]),
        (NO_END, {"generation_config.json": {"eos_token_id": 2}}, None),
        (NO_END, {"generation_config.json": {"eos_token_id": 5}}, [2, 5]),
        (ROLE_END, {}, None),
    ],
)
def test_the_ends_of_template_and_tokenizer_are_named_where_the_base_does_not(
    tmp_path: Path, template: str, files: dict[str, Any], expected: list[int] | None
) -> None:
    target = tokenizer_folder(tmp_path / "export", template)
    (tmp_path / "base").mkdir()
    for name, content in files.items():
        (tmp_path / "base" / name).write_text(json.dumps(content))
    assert add_end_tokens(target, tmp_path / "base") is (expected is not None)
    written = target / "generation_config.json"
    assert written.is_file() is (expected is not None)
    if expected is not None:
        found = json.loads(written.read_text())
        assert found == files.get("generation_config.json", {}) | {"eos_token_id": expected}


def test_an_adapter_with_other_ends_carries_them_and_says_how_to_pass_them(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    """The file is what transformers and vLLM take; without other ends there is none, and nothing to pass."""
    from transformers import AutoTokenizer, GenerationConfig

    from dpo_tui.train.tools.export_run import export

    def exported(base: Path, name: str) -> tuple[Path, dict[str, Any], str]:
        folder, target = finished_run(base, tiny_pairs), tmp_path / name
        request = {"run": str(folder.path), "target": str(target), "merge": False, "precision": "bf16"}
        return target, dict(export(request, lambda *_: None)["serve"]), (target / "README.md").read_text()

    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    eos, turn_end = tokenizer.convert_tokens_to_ids(["</s>", "<|im_end|>"])
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": [5]}))
    target, serve, card = exported(base, "other")
    assert GenerationConfig.from_pretrained(target).eos_token_id == [turn_end, eos, 5]
    assert f"--generation-config {target}" in serve["vLLM"][0]
    assert 'model.generation_config = GenerationConfig.from_pretrained("THIS FOLDER")' in card
    assert "--generation-config THIS_FOLDER" in card
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": [eos, turn_end]}))
    target, serve, card = exported(base, "same")
    assert not (target / "generation_config.json").exists()
    assert "generation-config" not in serve["vLLM"][0] + card
