"""`chat_template_kwargs`, `eos_token`, tools and dates: from a config through training to what is sampled and saved."""

import json
import shutil
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOTrainer

from dpo_tui.config.files import LoadedConfig, load
from dpo_tui.config.toml_text import to_toml
from dpo_tui.data.pairs.pair import Pair
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source.source import Source
from dpo_tui.data.tokens.pair_lengths import Length, TokenCounter
from dpo_tui.data.tokens.tokenizer_settings import TemplateSettings
from dpo_tui.errors import ConfigError, DataError
from dpo_tui.start.prepare import prepare
from dpo_tui.train.evaluation.generation import eos_token_ids, prompt_token_ids
from dpo_tui.train.export.merged_model import write_merged_folder
from dpo_tui.train.model.load import load_tokenizer
from dpo_tui.train.model.loaded_run import load_run
from dpo_tui.train.trainer import token_cache
from dpo_tui.train.trainer.run_datasets import load_datasets
from tests.support.chat_families import CHATML, LLAMA3, QWEN3, QWEN25
from tests.support.data_files import assistant, row, rows, user, write_lines
from tests.support.training import finished_run, lines, make_config, train

pytestmark = pytest.mark.usefixtures("home")
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model with the template of Qwen 3."""
    return with_template(tiny_model, tmp_path / "model", QWEN3)


def with_template(model: Path, folder: Path, template: str, **tokenizer: Any) -> Path:
    shutil.copytree(model, folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | tokenizer))
    return folder


def tokenised(config: Any) -> list[dict[str, list[int]]]:
    """What TRL makes of the rows of a run, with the tokenizer of the run."""
    tokenizer, _ = load_tokenizer(config)
    arguments = SimpleNamespace(
        dataset_num_proc=None, max_length=config.max_seq_length, truncation_mode=config.truncation_mode
    )
    this = SimpleNamespace(_tokenizer=tokenizer)
    found: list[dict[str, list[int]]] = list(
        DPOTrainer._prepare_dataset(this, load_datasets(config).train, tokenizer, arguments, "train")
    )
    return found


def test_variables_reach_training_sampling_and_counting_as_transformers_passes_them(
    model: Path, tmp_path: Path
) -> None:
    data = write_lines(tmp_path / "pairs.jsonl", rows(3))
    config = make_config(
        model, data, eval_split=0.0, max_seq_length=512, chat_template_kwargs={"enable_thinking": False}
    )
    plain = AutoTokenizer.from_pretrained(model)
    tokenizer, _ = load_tokenizer(config)
    settings = TemplateSettings.of(config)
    lengths = TokenCounter.from_folder(model, settings).lengths(
        [Pair(1, [user(one["prompt"])], [assistant(one["chosen"])], [assistant(one["rejected"])]) for one in rows(3)]
    )
    for one, made, length in zip(rows(3), tokenised(config), lengths, strict=True):
        prompt = plain.apply_chat_template(
            [user(one["prompt"])], add_generation_prompt=True, return_dict=True, enable_thinking=False
        )["input_ids"]
        whole = plain.apply_chat_template(
            [user(one["prompt"]), assistant(one["chosen"])], return_dict=True, enable_thinking=False
        )["input_ids"]
        assert made["prompt_ids"] == prompt
        assert made["prompt_ids"] + made["chosen_ids"] == whole
        assert prompt_token_ids(tokenizer, [user(one["prompt"])]) == prompt
        assert isinstance(length, Length)
        assert (length.prompt, length.chosen) == (len(prompt), len(made["chosen_ids"]))
    assert "<think>" in plain.decode(prompt)


def test_a_config_with_variables_is_frozen_and_read_again(model: Path, tmp_path: Path) -> None:
    values = {"enable_thinking": False, "style": 'a "b"\n', "depth": 2, "parts": ["x", {"y z": True}]}
    config = make_config(model, tmp_path / "pairs.jsonl", chat_template_kwargs=values, eos_token="<|im_end|>")
    file = tmp_path / "config.toml"
    file.write_text(to_toml(config), encoding="utf-8")
    assert load(file).config == config
    for wrong in ({"messages": []}, {"a b": 1}, {"x": None}):
        with pytest.raises(ConfigError):
            make_config(model, tmp_path / "pairs.jsonl", chat_template_kwargs=wrong)


def test_settings_of_the_template_are_in_the_result_and_in_what_is_generated(model: Path, tmp_path: Path) -> None:
    data = write_lines(tmp_path / "pairs.jsonl", rows(12))
    run = finished_run(
        model, data, max_seq_length=256, chat_template_kwargs={"enable_thinking": False}, eos_token="<|im_end|>"
    )
    loaded = load_run(run)
    prompt = loaded.tokenizer.decode(prompt_token_ids(loaded.tokenizer, [user("Why?")]))
    assert prompt.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    end = loaded.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert loaded.tokenizer.eos_token == "<|im_end|>"  # noqa: S105 (no password)
    assert eos_token_ids(loaded.policy, loaded.tokenizer) == [end, 2]
    config = load(run.config).config
    write_merged_folder(config, run, loaded.device.dtype, lambda what, done, total: None)
    merged = AutoModelForCausalLM.from_pretrained(run.merged)
    assert merged.generation_config.eos_token_id == [end, 2]
    assert merged.config.eos_token_id == end
    assert AutoTokenizer.from_pretrained(run.merged).eos_token == "<|im_end|>"  # noqa: S105 (no password)
    # A client may still pass a value of its own.
    tokenizer = AutoTokenizer.from_pretrained(run.merged)
    asked = tokenizer.apply_chat_template(
        [user("Why?")], tokenize=False, add_generation_prompt=True, enable_thinking=True
    )
    assert asked.endswith("<|im_start|>assistant\n")


def test_a_full_fine_tuning_keeps_the_end_token_in_its_generation_settings(model: Path, tmp_path: Path) -> None:
    data = write_lines(tmp_path / "pairs.jsonl", rows(8))
    run = finished_run(model, data, max_seq_length=256, eos_token="<|im_end|>", use_lora=False, max_steps=1)
    end = AutoTokenizer.from_pretrained(run.merged).convert_tokens_to_ids("<|im_end|>")
    assert end in AutoModelForCausalLM.from_pretrained(run.merged).generation_config.eos_token_id


def test_a_run_says_in_its_log_what_the_template_does(tiny_model: Path, tmp_path: Path) -> None:
    data = write_lines(tmp_path / "pairs.jsonl", rows(8))
    run = finished_run(tiny_model, data, max_steps=1)
    events = [event for event in lines(run.events) if event.get("rule") == "other-end-token"]
    assert len(events) == 1
    assert "end with <|im_end|>, but generation ends at </s>" in events[0]["message"]


@pytest.mark.parametrize("setting", [{}, {"eos_token": "<|im_end|>"}])
def test_a_tokenizer_without_padding_and_end_is_refused_in_words_before_the_start(
    tiny_model: Path, tmp_path: Path, setting: dict[str, str]
) -> None:
    model = with_template(tiny_model, tmp_path / "bare", CHATML, eos_token=None, pad_token=None)
    config = make_config(model, write_lines(tmp_path / "pairs.jsonl", rows(8)), max_steps=1, profile="none", **setting)
    if setting:
        prepare(LoadedConfig(config, None, {}))
        assert load_tokenizer(config)[0].pad_token == "<|im_end|>"  # noqa: S105 (no password)
        return
    for attempt in (lambda: prepare(LoadedConfig(config, None, {})), lambda: load_tokenizer(config)):
        with pytest.raises(ConfigError, match="no padding token, and no end-of-text token") as caught:
            attempt()
        assert "<|im_end|>" in (caught.value.hint or "")


def test_plain_text_that_nothing_can_end_is_refused_before_the_start(tiny_model: Path, tmp_path: Path) -> None:
    model = with_template(tiny_model, tmp_path / "endless", CHATML, eos_token=None)
    data = write_lines(tmp_path / "text.jsonl", [{"text": f"line {number}"} for number in range(8)])
    config = make_config(model, data, strategy="sft", profile="none")
    with pytest.raises(ConfigError, match="no end-of-text token to end plain text with"):
        prepare(LoadedConfig(config, None, {}))
    prepare(LoadedConfig(config.model_copy(update={"eos_token": "<|im_end|>"}), None, {}))


@pytest.mark.parametrize("chosen", [{"eos_token": "<|eot_id|>"}, {"trl": {"pad_token": "<|eot_id|>"}}])
def test_a_chosen_token_that_is_none_is_refused_before_the_start(
    chosen: dict[str, Any], model: Path, tmp_path: Path
) -> None:
    config = make_config(model, write_lines(tmp_path / "p.jsonl", rows(8)), profile="none", **chosen)
    for attempt in (lambda: prepare(LoadedConfig(config, None, {})), lambda: load_tokenizer(config)):
        with pytest.raises(ConfigError, match="is no token of"):
            attempt()


@pytest.mark.parametrize("truncation", ["keep_start", "keep_end"])
def test_pairs_of_which_none_fits_are_refused_before_the_start_and_by_the_worker(
    tiny_model: Path, tmp_path: Path, truncation: str
) -> None:
    long = [one | {"prompt": f"{one['prompt']} " * 40} for one in rows(8)]
    data = write_lines(tmp_path / "pairs.jsonl", long)
    config = make_config(tiny_model, data, max_seq_length=64, max_steps=1, profile="none", truncation_mode=truncation)
    if truncation == "keep_end":
        prepare(LoadedConfig(config, None, {}))
        assert train(config).adapter.is_dir()
        return
    for attempt in (lambda: prepare(LoadedConfig(config, None, {})), lambda: train(config)):
        with pytest.raises(DataError, match="prompt alone fills max_seq_length = 64 tokens") as caught:
            attempt()
        assert "keep_end" in (caught.value.hint or "")
    write_lines(data, [*long, row(50), row(51)])
    prepare(LoadedConfig(config.model_copy(update={"eval_split": 0.0}), None, {}))


def test_a_text_file_as_template_is_named_before_the_length_that_it_makes(tiny_model: Path, tmp_path: Path) -> None:
    data = write_lines(tmp_path / "pairs.jsonl", rows(8))
    notes = tmp_path / "notes.txt"
    notes.write_text("These notes are no template. " * 60)
    config = make_config(tiny_model, data, max_seq_length=64, profile="none", chat_template=str(notes))
    with pytest.raises(DataError, match=r"notes\.txt: the template writes none of the messages") as caught:
        prepare(LoadedConfig(config, None, {}))
    assert "chat_template = FILE" in (caught.value.hint or "")


@pytest.mark.parametrize("truncation", ["keep_start", "keep_end"])
def test_the_scan_promises_the_rows_that_training_keeps_in_either_mode(
    tiny_model: Path, tmp_path: Path, truncation: str
) -> None:
    data = write_lines(tmp_path / "pairs.jsonl", [row(n) | {"prompt": "reset my password " * n} for n in range(1, 31)])
    request = ScanRequest(Source(str(data)), str(tiny_model), 96, workers=1, truncation=truncation)
    report = scan(request, lambda _event: None)
    config = make_config(tiny_model, data, max_seq_length=96, truncation_mode=truncation, eval_split=0.0)
    assert report.will_drop == 30 - len(tokenised(config))
    assert (report.will_drop == 0) == (truncation == "keep_end")


def test_tokens_of_another_day_are_not_taken_from_the_cache(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dated = AutoTokenizer.from_pretrained(with_template(tiny_model, tmp_path / "dated", LLAMA3))
    arguments = SimpleNamespace(max_length=64, truncation_mode="keep_start")
    data = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])

    def keys(day: int) -> tuple[str | None, str | None]:
        from dpo_tui.data.tokens import template_date

        now = datetime(2031, 5, day)
        monkeypatch.setattr(token_cache, "clock_texts", lambda sources: template_date.clock_texts(sources, lambda: now))
        plain = AutoTokenizer.from_pretrained(tiny_model)
        return tuple(token_cache.key_of(data, one, arguments) for one in (dated, plain))  # type: ignore[return-value]

    first, second = keys(6), keys(7)
    assert first[0] != second[0]
    assert first[1] == second[1]
    assert keys(6) == first
    dated.chat_template = {"default": CHATML, "tool_use": "{{ strftime_now(form) }}"}
    assert token_cache.key_of(data, dated, arguments) is None


def test_sampled_answers_see_the_tools_that_their_rows_are_trained_with(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dpo_tui.train.evaluation import in_training

    model = with_template(tiny_model, tmp_path / "model", QWEN25)
    data = write_lines(
        tmp_path / "pairs.jsonl",
        [
            {
                "prompt": [user(f"Rain {n}?")],
                "chosen": [assistant("No.")],
                "rejected": [assistant("Hm.")],
                "tools": TOOLS,
            }
            for n in range(8)
        ],
    )
    seen: list[list[int]] = []

    def noted(model: Any, tokenizer: Any, prompts: list[list[int]], *rest: Any) -> Any:
        seen.extend(prompts)
        return iter(())

    monkeypatch.setattr(in_training, "greedy_answers", noted)
    train(make_config(model, data, max_steps=1, max_seq_length=512))
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert seen
    assert all('"name": "weather"' in tokenizer.decode(prompt) for prompt in seen)
