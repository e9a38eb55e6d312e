"""The demo's shipped parts: present, small, well formed, and what the build script makes."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.schema import Config, section_of
from dpo_tui.demo import assets
from tests.support.repository import ROOT

MEGABYTE = 1_000_000


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def pairs() -> list[dict[str, str]]:
    return rows(assets.pairs_file())


@pytest.fixture(scope="module")
def heldout() -> list[dict[str, str]]:
    return rows(assets.heldout_file())


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(assets.model_dir())


@pytest.fixture(scope="module")
def model() -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.AutoModelForCausalLM.from_pretrained(assets.model_dir())


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def test_the_weights_stay_under_eight_megabytes() -> None:
    weights = list(assets.model_dir().glob("*.safetensors"))
    assert weights
    assert sum(file.stat().st_size for file in weights) <= 8 * MEGABYTE


def test_every_part_lies_inside_the_package() -> None:
    """An installed wheel has them too."""
    package = ROOT / "dpo_tui"
    for part in (assets.model_dir(), assets.pairs_file(), assets.heldout_file(), assets.config_file()):
        assert part.exists()
        assert part.is_relative_to(package)


def test_there_are_enough_pairs_and_enough_held_out(pairs: list[dict[str, str]], heldout: list[dict[str, str]]) -> None:
    assert len(pairs) >= 500
    assert len(heldout) >= 60


def test_every_row_is_a_plain_pair(pairs: list[dict[str, str]], heldout: list[dict[str, str]]) -> None:
    for row in pairs + heldout:
        assert set(row) == {"prompt", "chosen", "rejected"}
        assert all(isinstance(text, str) and text == text.strip() and text for text in row.values())


def test_no_question_comes_twice_and_none_is_both_trained_and_held_out(
    pairs: list[dict[str, str]], heldout: list[dict[str, str]]
) -> None:
    prompts = [row["prompt"] for row in pairs + heldout]
    assert len(set(prompts)) == len(prompts)


def test_the_chosen_answer_is_the_helpful_one(pairs: list[dict[str, str]], heldout: list[dict[str, str]]) -> None:
    """Several sentences against a few words."""
    for row in pairs + heldout:
        assert len(re.findall(r"[.!?](?:\s|$)", row["chosen"])) >= 3
        assert len(row["chosen"].split()) >= 2 * len(row["rejected"].split())


def test_helpful_answers_are_not_one_answer_repeated(pairs: list[dict[str, str]]) -> None:
    assert len({row["chosen"] for row in pairs}) >= 500


def test_the_showcase_questions_are_the_first_that_are_held_out(heldout: list[dict[str, str]]) -> None:
    assert tuple(row["prompt"] for row in heldout[:3]) == assets.SHOWCASE


def test_the_shipped_pairs_are_those_that_the_script_builds(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "build_demo.py"
    subprocess.run([sys.executable, script, "--pairs", "--target", tmp_path], check=True, capture_output=True)
    for shipped in (assets.pairs_file(), assets.heldout_file()):
        assert (tmp_path / shipped.name).read_bytes() == shipped.read_bytes()


def test_the_config_is_one_that_the_schema_takes() -> None:
    """Every key in its own table, nothing unknown, paths left to the code."""
    tables = tomllib.loads(assets.config_file().read_text("utf-8"))
    values = {key: value for table in tables.values() for key, value in table.items()}
    assert all(section_of(key) == name for name, table in tables.items() for key in table)
    assert not {"model_name", "dataset"} & set(values)
    config = Config(model_name=str(assets.model_dir()), dataset=str(assets.pairs_file()), **values)
    assert not config.use_4bit
    assert not config.bf16


def test_the_prompts_tokens_begin_the_whole_conversations_tokens(
    tokenizer: Any, pairs: list[dict[str, str]], heldout: list[dict[str, str]]
) -> None:
    """DPO scores the answer's tokens only, so the prompt must not change when an answer follows."""
    for row in (pairs + heldout)[::7]:
        prompt = tokenizer.apply_chat_template([user(row["prompt"])], add_generation_prompt=True, return_dict=False)
        for answer in (row["chosen"], row["rejected"]):
            whole = tokenizer.apply_chat_template([user(row["prompt"]), assistant(answer)], return_dict=False)
            assert whole[: len(prompt)] == prompt
            assert whole[-1] == tokenizer.eos_token_id
            assert tokenizer.decode(whole[len(prompt) :], skip_special_tokens=True) == answer


def test_every_pair_fits_the_configured_length(
    tokenizer: Any, pairs: list[dict[str, str]], heldout: list[dict[str, str]]
) -> None:
    """Nothing is cut, nothing is dropped."""
    limit = tomllib.loads(assets.config_file().read_text("utf-8"))["data"]["max_seq_length"]
    for row in pairs + heldout:
        whole = tokenizer.apply_chat_template([user(row["prompt"]), assistant(row["chosen"])], return_dict=False)
        assert len(whole) <= limit


def test_the_template_takes_a_system_message_and_several_turns(tokenizer: Any) -> None:
    chat = [{"role": "system", "content": "Be kind."}, user("Hello"), assistant("Yes?"), user("Thanks")]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|system|>Be kind.<|end|><|user|>Hello<|end|><|assistant|>Yes?<|end|><|user|>Thanks<|end|><|assistant|>"
    )


def test_the_model_loads_in_full_precision(model: Any) -> None:
    """Stored in half the bytes, trained on a CPU in float32."""
    assert str(model.dtype) == "torch.float32"


def test_before_training_the_showcase_answers_are_short_english(
    model: Any, tokenizer: Any, pairs: list[dict[str, str]]
) -> None:
    """The toy ends its answers, and says only words that occur in its pairs."""
    known = set(re.findall(r"\w+", " ".join(text.lower() for row in pairs for text in row.values())))
    for question in assets.SHOWCASE:
        prompt = tokenizer.apply_chat_template([user(question)], add_generation_prompt=True, return_tensors="pt")
        output = model.generate(**prompt, max_new_tokens=96)[0, prompt["input_ids"].shape[1] :]
        words = re.findall(r"\w+", tokenizer.decode(output, skip_special_tokens=True).lower())
        assert output[-1] == tokenizer.eos_token_id
        assert 1 <= len(words) <= 12
        assert set(words) <= known
