"""What reads text and files from outside, each as a function of bytes: for property tests, a corpus and a campaign.

A function may raise what its docstring in the product names, and that alone is caught here. Anything else that comes
out is a fault, as is more than ten seconds or some hundred megabytes.
"""

import contextlib
import gzip
import json
import os
import struct
from dataclasses import replace

from dpo_tui.cli.mcp_tools import shown
from dpo_tui.config import files
from dpo_tui.data.load_demonstrations import load_demonstrations
from dpo_tui.data.load_labelled import load_labelled
from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.pairs.word_diff import word_difference
from dpo_tui.data.source.source import Source
from dpo_tui.data.tokens.limited_template import LimitedTemplate
from dpo_tui.data.tokens.template_date import clock_texts
from dpo_tui.data.tokens.tokenizer_settings import TokenizerSettings
from dpo_tui.errors import DpoTuiError
from dpo_tui.http_post import _retry_after, check_address, shown_address
from dpo_tui.hub.safetensors_header import read_header
from dpo_tui.judging.endpoint.chat_endpoint import _read_reply
from dpo_tui.judging.judge_question import read_verdict
from dpo_tui.judging.judges.judge import JudgeChoice
from dpo_tui.judging.judges.program_judge import _read_score, _split
from dpo_tui.judging.prompt_file import read_prompts
from dpo_tui.judging.rubrics import checked_rubric
from dpo_tui.runs import control_requests
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.metrics_reader import MetricsTail, latest, read_all
from dpo_tui.runs.state import read_state
from dpo_tui.runs.status import read_progress, status_of
from dpo_tui.start.model_checks.model_folder import ModelFolder
from dpo_tui.text.printable import printable
from dpo_tui.views import user_settings
from dpo_tui.views.foreign_feed import ForeignFeed
from dpo_tui.views.log_file import LogFile
from dpo_tui.views.run_feed import RunFeed
from dpo_tui.views.styled_text import wrap_pieces
from dpo_tui.views.tensorboard_events import EventFileTail
from dpo_tui.views.trainer_log import TrainerLogTail
from tests.support.hostile_bytes import NOW, Reader, choice, fill, one_of_each, scratch_folder
from tests.support.hostile_folders import FOLDER_READERS, FOLDER_SEEDS
from tests.support.hostile_words import WORD_READERS, WORD_SEEDS

_CONFIGS = ("toml", "yaml", "json", "yml")
_DATA = ("jsonl", "json", "csv", "tsv", "jsonl.gz", "jsonl.zst", "parquet", "arrow", "txt")
_MODEL_FILES = {
    "config.json": b'{"model_type": "llama", "hidden_size": 64, "eos_token_id": [2, 0]}',
    "tokenizer_config.json": b'{"eos_token": {"content": "</s>"}, "tokenizer_class": "PreTrainedTokenizerFast"}',
    "tokenizer.json": b'{"added_tokens": [{"id": 2, "content": "</s>"}], "model": {"vocab": {"a": 0, "</s>": 2}}}',
    "generation_config.json": b'{"do_sample": true}',
    "model.safetensors": (54).to_bytes(8, "little")
    + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    + bytes(4),
}
_RUN_FILES = ("state.json", "progress.json", "metrics.jsonl", "events.jsonl", "samples.jsonl", "receipt.json")


def config(data: bytes) -> None:
    """A config of ours, or of another tool."""
    kind, content = choice(data, _CONFIGS)
    with scratch_folder() as folder:
        path = folder / f"config.{kind}"
        path.write_bytes(content)
        files.load(path)


def dataset(data: bytes) -> None:
    """A file of data, of each kind and compression."""
    kind, content = choice(data, _DATA)
    with scratch_folder() as folder:
        path = folder / f"data.{kind}"
        path.write_bytes(content)
        for load in (load_pairs, load_labelled, load_demonstrations):
            with contextlib.suppress(DpoTuiError):
                load(Source(str(path)))


def chat_messages(data: bytes) -> None:
    """One row of conversations."""
    dataset(b"\x00" + data.replace(b"\n", b" ") + b"\n")


def run_folder(data: bytes) -> None:
    """The files of a run, as lists, the monitor and the supervisor read them."""
    kind, content = choice(data, _RUN_FILES)
    with scratch_folder() as path:
        folder = RunFolder(path)
        (path / kind).write_bytes(content)
        read_progress(folder)
        feed = RunFeed(folder)
        feed.poll(NOW)
        latest(folder.metrics)
        for _ in read_all(folder.metrics):
            pass
        for read in (read_state, status_of):
            with contextlib.suppress(DpoTuiError):
                read(folder)


def growing_lines(data: bytes) -> None:
    """Logs that grow while they are read: cut where the first byte says. TensorBoard's as a file, and as a record."""
    cut, content = (data[0], data[1:]) if data else (0, data)
    with scratch_folder() as folder:
        for name, tail in (
            ("metrics.jsonl", MetricsTail(folder / "metrics.jsonl")),
            ("trainer_log.jsonl", TrainerLogTail(folder / "trainer_log.jsonl")),
            ("events.out.tfevents.1", EventFileTail(folder / "events.out.tfevents.1")),
        ):
            whole = b""
            for part in (content[:cut], content[cut:]):
                whole += part
                (folder / name).write_bytes(whole)
                tail.poll()
        record = struct.pack("<Q", len(data)) + bytes(4) + data + bytes(4)
        (folder / "events.out.tfevents.2").write_bytes(record)
        framed = EventFileTail(folder / "events.out.tfevents.2")
        json.dumps(framed.poll())
        assert not framed.incomplete


def log_text(data: bytes) -> None:
    """A log, shown and searched."""
    with scratch_folder() as folder:
        path = folder / "train.log"
        path.write_bytes(data)
        log = LogFile(path)
        for line in log.tail(20):
            printable(log.whole(line, 10_000))
        log.find(data[:3].decode("latin-1"), 0)
        log.before(log.size(), 10)
        log.offset_of(3)


def foreign_run(data: bytes) -> None:
    """The folder of another trainer."""
    kind, content = choice(data, ("trainer_state.json", "trainer_log.jsonl", "logging.jsonl", "events.out.tfevents.1"))
    with scratch_folder() as folder:
        place = folder / "checkpoint-10" if kind == "trainer_state.json" else folder
        place.mkdir(exist_ok=True)
        (place / kind).write_bytes(content)
        ForeignFeed(folder).poll(NOW)


def control(data: bytes) -> None:
    """A request in a run's folder."""
    with scratch_folder() as path:
        folder = RunFolder(path)
        folder.control.mkdir()
        for name in ("stop", "stop-now", "checkpoint", "pause"):
            (folder.control / name).write_bytes(data)
        control_requests.stop_reason(folder)
        control_requests.clear(folder, control_requests.STOP)


def template(data: bytes) -> None:
    """A chat template."""
    text = data.decode("utf-8", "replace")
    clock_texts([text])
    try:
        made = LimitedTemplate(text, {"eos_token": "</s>"}, "m", seconds=2)
    except DpoTuiError:
        return
    except Exception:  # a template may be anything; whoever compiles one catches everything
        return
    made.refusal([([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "there"}], None, False)])


def prompt_file(data: bytes) -> None:
    """A file of prompts to judge."""
    kind, content = choice(data, ("jsonl", "txt", "json"))
    with scratch_folder() as folder:
        path = folder / f"prompts.{kind}"
        path.write_bytes(content)
        read_prompts(path)


def replies(data: bytes) -> None:
    """What judges say: replies of an endpoint, headers and addresses of one, lines of a program, a rubric."""
    text = data.decode("utf-8", "surrogateescape")
    with contextlib.suppress(ValueError):
        _read_reply(data)
    read_verdict(data.decode("utf-8", "replace"), "n0nce")
    for line in data.splitlines()[:5]:
        with contextlib.suppress(DpoTuiError):
            _read_score("program", 1, line, 2)
    for read in (lambda: _split(text), lambda: check_address(text), lambda: checked_rubric(text, "rubric")):
        with contextlib.suppress(DpoTuiError, ValueError):  # of an address
            read()
    shown_address(text)
    _retry_after(data.decode("latin-1"))
    with contextlib.suppress(ValueError, RecursionError):
        JudgeChoice.from_document(json.loads(data))


def model_folder(data: bytes) -> None:
    """A model's small files, of which one is not as it should be."""
    with scratch_folder() as folder:
        fill(folder, _MODEL_FILES, data)
        with contextlib.suppress(ValueError, OSError):  # of a damaged file
            read_header(folder / "model.safetensors")
        settings = TokenizerSettings(folder)
        for texts in (
            lambda: [*settings.special_tokens.values()],
            lambda: [*settings.added_tokens.values()],
            lambda: settings.stop_tokens,
        ):
            with contextlib.suppress(DpoTuiError):
                assert all(isinstance(one, str) for one in texts())
        for read in (
            lambda: settings.has_token("x"),
            lambda: settings.lacks_padding or settings.lacks_end,
            lambda: ModelFolder(folder, str(folder)).config,
        ):
            with contextlib.suppress(DpoTuiError):
                read()
        for token in (None, "a", "<s>", "</s>"):
            with contextlib.suppress(DpoTuiError):
                assert isinstance(settings.id_of(token), int | None)


def tool_output(data: bytes) -> None:
    """What a tool for agents gives of a command's output."""
    printed = shown(data.decode("utf-8", "surrogateescape"))
    assert printed == printable(printed)


def settings_file(data: bytes) -> None:
    """The settings of the app, read and written again."""
    with scratch_folder() as folder:
        path = folder / "settings.toml"
        path.write_bytes(data)
        found = user_settings.load(path)
        user_settings.save(found, path)
        assert replace(user_settings.load(path), problems=()) == replace(found, problems=())


def text(data: bytes) -> None:
    """Text for a terminal, wrapped, and compared word by word.

    Of the first there is one place to cover: `re` runs its patterns in C.
    """
    text = data.decode("utf-8", "surrogateescape")
    shown = printable(text)
    assert not any((ord(sign) < 32 and sign not in "\n\t") or 127 <= ord(sign) < 160 for sign in shown)
    assert printable(shown) == shown
    shown.encode()
    assert not set(printable(text, single_line=True)) & set("\n\t\r")
    left, _, right = text.partition("\n\n")
    for width in (1, 7):
        wrap_pieces([(left, "text"), (right, "muted")], width)
    word_difference(left, right)


READERS: dict[str, Reader] = {
    **FOLDER_READERS,
    **WORD_READERS,
    "config": config,
    "dataset": dataset,
    "chat_messages": chat_messages,
    "run_folder": run_folder,
    "growing_lines": growing_lines,
    "log_text": log_text,
    "foreign_run": foreign_run,
    "control": control,
    "template": template,
    "prompt_file": prompt_file,
    "replies": replies,
    "model_folder": model_folder,
    "tool_output": tool_output,
    "settings_file": settings_file,
    "text": text,
}


def read(name: str, data: bytes) -> None:
    """Have a reader read some bytes, and take no notice of the product's own errors."""
    with contextlib.suppress(DpoTuiError):
        READERS[name](data)


_JSON = [
    b'{"prompt": "a", "chosen": "b", "rejected": "c"}',
    b'{"chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "rejected": []}',
    b'{"prompt": "a", "completion": "b", "label": true}',
    b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "tools": []}',
    b'{"prompt": "a", "responses": [{"text": "x", "score": 1e999}, {"text": "y", "score": -1}]}',
]
_VALUES = [
    b"\x0a\x04loss\x15" + struct.pack("<f", 0.5),
    b"\x0a\x04loss\x42\x06\x2a\x04" + struct.pack("<f", 0.5),
]
_EVENTS = [
    b"\x09" + struct.pack("<d", 1e9) + b"\x10\x07\x2a" + bytes([len(one) + 2]) + b"\x0a" + bytes([len(one)]) + one
    for one in _VALUES
]
SEEDS: dict[str, list[bytes]] = {
    **FOLDER_SEEDS,
    **WORD_SEEDS,
    "config": [
        b'\x00[model]\nmodel_name = "m"\n[data]\ndataset = "d.jsonl"\n',
        b"\x01model_name_or_path: m\nstage: dpo\ndataset: a,b\npref_beta: 0.1\nfinetuning_type: lora\n",
        b"\x01base_model: m\nrl: dpo\ndatasets:\n  - path: a\n    type: chatml\nadapter: lora\n",
        b"\x01a: &a [x, x]\nb: &b [*a, *a]\nmodel_name: *b\n",
        b'\x02{"model_name": "m", "dataset": "d", "learning_rate": "1e-5", "trl": {"x": [1]}}',
        b"\x01task: dpo\nbase_model: m\nproject_name: p\ndata:\n  path: d\n  column_mapping: {}\nparams: {lr: 1}\n",
        b"\x01rlhf_type: dpo\nmodel: m\ndataset: [a]\nlora_rank: 8\n",
    ],
    "dataset": [
        *(bytes([kind]) + row + b"\n" for kind in (0, 1, 2, 8) for row in _JSON),
        b"\x04" + gzip.compress(_JSON[0] + b"\n"),
        b"\x02prompt,chosen,rejected\na,b,c\n",
    ],
    "chat_messages": _JSON,
    "run_folder": [
        b'\x00{"id": "x", "name": "n", "status": "running", "attempt": 1, "devices": ["gpu:0"]}',
        b'\x01{"phase": "training", "step": 1, "total": 4, "unit": "steps", "time": 1.0}',
        b'\x02{"step": 1, "time": 1.0, "loss": 0.6, "rewards/chosen": NaN}\n{"step": 2, "eval_loss": 1}\n',
        b'\x03{"time": 1, "kind": "warning", "message": "x"}\n',
        b'\x04{"step": 1, "prompt": [], "answer": "x", "reference": "y"}\n',
    ],
    "growing_lines": [
        *_EVENTS,
        b'\x08{"step": 1, "loss": 1}\n{"current_steps": 5, "total_steps": 9, "loss": 0.5}\n',
    ],
    "log_text": [b"line\r\rprogress 3%\n\x1b[31mred\x1b[0m\n" * 3],
    "foreign_run": [
        b'\x00{"log_history": [{"loss": 1.0, "step": 1}], "max_steps": 10, "global_step": 1}',
        b'\x01{"current_steps": 5, "total_steps": 9, "loss": 0.5, "remaining_time": "0:01:00"}\n',
        b'\x02{"loss": 0.5, "global_step/max_steps": "5/10"}\n',
        *(b"\x03" + struct.pack("<Q", len(event)) + bytes(4) + event + bytes(4) for event in _EVENTS),
    ],
    "control": [b"a reason"],
    "template": [
        b"{% for m in messages %}{{ m.role + m['content'] }}{% endfor %}{{ strftime_now('%d') }}",
        b"{% macro f(x) %}{{ x|tojson }}{% endmacro %}{% set ns = namespace(a=1) %}{{ f(messages) }}",
    ],
    "prompt_file": [
        b'\x00{"prompt": "a"}\n',
        b"\x01one\ntwo\n",
        b'\x02[{"messages": [{"role": "user", "content": "a"}]}]',
    ],
    "replies": [
        b'{"choices": [{"message": {"content": "[[A]] n0nce"}, "finish_reason": "length"}], "usage": {}}',
        b'{"kind": "program", "command": "a", "settings": {}}',
        b'{"id": "1", "score": 0.5}\n{"id": "2", "score": 1e999}\n',
        b"python 'score it.py' --x=1",
        b"https://user:secret@example.org:8000/v1?x=1",
        b"Fri, 31 Dec 1999 23:59:59 GMT",
        b"120",
    ],
    "model_folder": [
        *one_of_each(_MODEL_FILES),
        b'\x00{"model_type": "llama", "text_config": {"eos_token_id": 2}}',
        b'\x01{"eos_token": "</s>", "added_tokens_decoder": {"0": {"content": "<s>", "special": true}}}',
        b'\x02{"model": {"vocab": [["a", -1.5], ["b", -2], ["</s>", 0]]}}',
        b'\x03{"eos_token_id": 2}',
    ],
    "tool_output": [b"hf_abcdefghijklmnopqrstuvwxyz012345 \xc2\x9b31m"],
    "settings_file": [b'theme = "dark"\nbell = true\n[keys]\n"app.quit" = "x"\n'],
    "text": [
        "a word, ein Wort \u6f22\u5b57 \U0001f469\u200d\U0001f467\n\nanother e\u0301 word\u202e".encode(),
        "a\u202e\x1b]52;c;aGk=\x07b\u009bc\u200d\n".encode(),
    ],
}


def kind_of(error: BaseException) -> str:
    """What an error is, and the deepest place of ours that it comes from: errors of one kind are one fault."""
    place, trace = "", error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if f"{os.sep}dpo_tui{os.sep}" in name:
            place = f"{name.rpartition(f'{os.sep}dpo_tui{os.sep}')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} at {place or 'no place of ours'}"
