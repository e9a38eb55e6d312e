"""Readers of what is typed, and of what programs, models, schedulers and theme authors write; see `hostile_input`."""

import contextlib
import gc
import json
import os
import struct
from unittest import mock

from dpo_tui.cli.mcp_tools import _assignments
from dpo_tui.config.files import from_values, parse_assignment
from dpo_tui.config.schema import fields
from dpo_tui.data.repair.repair import repair
from dpo_tui.data.repair.repair_plan import RepairPlan
from dpo_tui.data.scan.report_text import report_text
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source.source import Source
from dpo_tui.data.tokens.load_template import template_sources
from dpo_tui.data.tokens.tokenizer_settings import TemplateSettings
from dpo_tui.errors import DpoTuiError
from dpo_tui.groups.sweep import parse_sweep
from dpo_tui.groups.sweep_values import label
from dpo_tui.hardware.models.lookup import architecture_of
from dpo_tui.hub.model_code import foreign_code
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers import slurm_commands, slurm_job
from dpo_tui.runs.launchers.slurm_nodes import parse_answers, require_alike
from dpo_tui.start.model_checks.config_file import check_config_file
from dpo_tui.start.model_checks.mixture_of_experts import check_mixture_of_experts
from dpo_tui.start.model_checks.model_folder import ModelFolder
from dpo_tui.start.model_checks.quantised_files import check_quantised_files
from dpo_tui.start.model_checks.tokenizer_check import check_tokenizer
from dpo_tui.start.model_checks.weight_files import check_weights
from dpo_tui.start.model_checks.worker_packages import WorkerPackages
from dpo_tui.text.location_list import locations_of
from dpo_tui.themes import theme_files
from dpo_tui.views import run_plan
from tests.support.hostile_bytes import NOW, Reader, choice, fill, one_of_each, scratch_folder


def typed_value(data: bytes) -> None:
    """A value for a setting: in a form, after ``--set`` and ``--sweep``, and from an agent."""
    names = sorted(fields())
    name, text = names[data[0] % len(names)] if data else names[0], data[1:].decode("utf-8", "surrogateescape")
    value = run_plan.parse(name, text)
    run_plan.setting_text(value)
    run_plan.swept_values(name, value)
    locations_of(text)
    with contextlib.suppress(DpoTuiError):
        label(dict.fromkeys(("a",), parse_sweep([f"{name}={text}"]).values[name][0]))
    with contextlib.suppress(DpoTuiError):
        key, found = parse_assignment(f"{name}={text}")
        from_values({"model_name": "m", "dataset": "d", key: found})
    with contextlib.suppress(ValueError, RecursionError):
        settings = json.loads(text)
        for one in _assignments(settings if isinstance(settings, dict) else {name: settings}):
            parse_assignment(one.removeprefix("--set="))


def slurm_output(data: bytes) -> None:
    """What Slurm's commands and the nodes of a job print, and what a run keeps of it."""
    text = data.decode("utf-8", "replace")
    with scratch_folder() as path, mock.patch.object(slurm_commands, "run_command", return_value=text):
        folder = RunFolder(path)
        for call in (slurm_commands.partitions, slurm_commands.partition_gres, lambda: slurm_commands.submit("", {})):
            with contextlib.suppress(DpoTuiError):
                call()
        slurm_commands.kill_steps("17")
        folder.job.write_bytes(b'{"id": "17"}')
        folder.supervisor_output.write_bytes(data)
        entries = slurm_commands.parse_squeue(text) | slurm_commands.parse_sacct(text)
        for entry in list(entries.values())[:3]:
            slurm_job.write_report(folder, slurm_job.JobReport.of(entry, NOW))
            _described(folder)
        folder.job_status.write_bytes(data)
        _described(folder)
        slurm_job.request_after(folder, text)
        slurm_job.more_memory(text)
        with contextlib.suppress(DpoTuiError):
            require_alike(folder, parse_answers(text), 2)


def _described(folder: RunFolder) -> None:
    report = slurm_job.read_report(folder)
    if report is not None:
        slurm_job.describe_pending(report, NOW)
        slurm_job.describe_running(report, NOW)
        slurm_job.describe_end(folder, report, "4G")


def theme_file(data: bytes) -> None:
    """A theme of the user's, beside the shipped ones, as the app takes it."""
    with scratch_folder() as folder:
        (folder / "mine.toml").write_bytes(data)
        palettes, problems = theme_files.load((theme_files.SHIPPED, folder))
        assert all(map(str, problems))
        if "mine" in palettes:
            theme_files.to_textual(palettes["mine"]).to_color_system().generate()


_STORED = b'{"model.norm.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
_MODEL = {
    "config.json": json.dumps(
        {
            **{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "vocab_size": 100},
            **{"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128},
            **{"eos_token_id": [2], "torch_dtype": "bfloat16", "tie_word_embeddings": True, "num_local_experts": 2},
            "quantization_config": {"quant_method": "gptq", "bits": 4},
            "auto_map": {"AutoModel": "modeling_x.X"},
        }
    ).encode(),
    "tokenizer_config.json": json.dumps(
        {
            **{"eos_token": {"content": "</s>"}, "pad_token": "x", "tokenizer_class": "LlamaTokenizer"},
            "added_tokens_decoder": {"2": {"content": "</s>", "special": True}},
            "chat_template": [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}],
        }
    ).encode(),
    "tokenizer.json": b'{"added_tokens": [{"id": 2, "content": "</s>"}], "model": {"type": "BPE", "vocab": {"a": 0}}}',
    "generation_config.json": b'{"eos_token_id": [2], "temperature": 1.0}',
    "model.safetensors.index.json": b'{"metadata": {}, "weight_map": {"model.norm.weight": "a.safetensors"}}',
    "a.safetensors": struct.pack("<Q", len(_STORED)) + _STORED + bytes(8),
    "adapter_config.json": b'{"peft_type": "LORA", "base_model_name_or_path": "/nowhere", "r": 8}',
    "chat_template.json": b'{"chat_template": "x"}',
}
_HEADER = 5
"""Place of the safetensors file among them: the length before its header is put right, so that the header is read."""


def model_checks(data: bytes) -> None:
    """A model's folder as the checks before a start and the forecast of memory read it."""
    if data[:1] and data[0] % len(_MODEL) == _HEADER and data[1:2] == b"{":
        data = data[:1] + struct.pack("<Q", len(data) - 1) + data[1:] + bytes(8)
    with scratch_folder() as path:
        fill(path, _MODEL, data)
        config = from_values({"model_name": str(path), "dataset": "d"})
        folder, packages = ModelFolder(path, str(path)), WorkerPackages()
        for check in (
            lambda: architecture_of(str(path)).parameters,
            lambda: folder.text_config,
            lambda: folder.tensors,
            lambda: check_weights(folder),
            lambda: check_config_file(folder, config, packages),
            lambda: check_quantised_files(folder, packages, has_gpu=False),
            lambda: check_tokenizer(folder, config),
            lambda: check_mixture_of_experts(folder, config),
            lambda: template_sources(path, TemplateSettings()),
            lambda: foreign_code(path),
        ):
            with contextlib.suppress(DpoTuiError):
                check()


def data_report(data: bytes) -> None:
    """A dataset, scanned and repaired."""
    kind, content = choice(data, ("jsonl", "json", "csv", "tsv"))
    with scratch_folder() as folder, mock.patch.dict(os.environ, {"DPO_TUI_HOME": str(folder / "home")}):
        source = Source(str(folder / f"data.{kind}"))
        (folder / f"data.{kind}").write_bytes(content)
        with contextlib.suppress(DpoTuiError):
            report_text(json.loads(json.dumps(scan(ScanRequest(source, workers=1), lambda event: None).to_json())))
        gc.enable()  # a scan's own process goes on without
        plan = RepairPlan(flip_rows=frozenset({1}), longest_text=1000, hold_out=0.5, fix_encoding=True)
        repair(source, plan, folder / "out.jsonl")


WORD_READERS: dict[str, Reader] = {
    "typed_value": typed_value,
    "slurm_output": slurm_output,
    "theme_file": theme_file,
    "model_checks": model_checks,
    "data_report": data_report,
}
WORD_SEEDS: dict[str, list[bytes]] = {
    "typed_value": [
        *(bytes([number]) + b"1e-6, 0.5" for number in range(0, 120, 2)),
        *(bytes([number]) + b'{"a": 1, learning_rate: "x"}' for number in range(1, 120, 4)),
        b"\x03{a = 1, b = [true]}",
        b"\x05runs/a.jsonl, b.jsonl:3",
    ],
    "slurm_output": [
        b"17|PENDING|2026-01-02T03:04:05|(null)|Priority\n18|RUNNING|N/A|n[1-4,7],m1|None\n",
        b"17|CANCELLED by 1000|n1\n17|OUT_OF_MEMORY|n[01-02]\n",
        b"gpu|gpu:a100:4(S:0-1),shard:8\ncpu|(null)\n",
        b"17;cluster\n",
        b'{"node": "n1", "sees_folder": true, "gpus": 2}\n{"node": "n2", "sees_folder": true, "gpus": 2}\n',
        b'{"id": "17", "state": "PENDING", "reason": "QOSLimit", "start": 1.9e9, "t": 1.0, "error": "no"}',
        b"slurmstepd: error: StepId=17.0 exceeded memory limit (1 > 0), being killed\n",
        b"it used more than its main memory of 64G",
    ],
    "theme_file": [
        b'title = "Mine"\nextends = "dark"\ndark = true\n[colors]\nprimary = "#123456"\n[variables]\nborder = "red"\n',
        b'extends = "nord"\n[colors]\naccent = "#123456"\n',
        b'extends = "ansi-16"\n[chart]\naxis = "ansi_red"\nlines = ["#1", "#2", "#3", "#4", "#5", "#6"]\n',
    ],
    "model_checks": [
        *one_of_each(_MODEL),
        b'\x05{"model.layers.0.mlp.gate.weight":{"dtype":"BF16","shape":[1,4],"data_offsets":[0,8]}}',
        b"\x03chat",
    ],
    "data_report": [
        b'\x00{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": "d", "chosen": "b", "rejected": "e"}\n',
        b'\x00{"prompt": "a", "completion": "b", "label": true}\n',
        b'\x01[{"chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "rejected": []}]',
        b'\x00{"prompt": "a", "chosen": "\xc3\x83\xc2\xa9", "rejected": "c"}\n',
        b"\x02prompt,chosen,rejected\na,b,c\n",
    ],
}
