"""Estimated against measured GPU memory: real architectures with random weights (memory does not care about values).

    python benchmarks/vram.py                 every row, on the GPU; writes benchmarks/results/vram.md
    python benchmarks/vram.py --only Qwen     rows whose model's name contains this
    python benchmarks/vram.py --smoke         a tiny row on the CPU, to see that this program runs; measures nothing

Each row is a process of its own: it builds the model on the GPU layer by layer (NF4 layers are packed one at a time,
so an 8B model never exists in 16 bit), caps PyTorch's allocator at the memory of a 12, 16 or 24 GB card, and takes two
optimizer steps of TRL's DPOTrainer on pairs that fill max_seq_length. Measured is the allocator's peak plus what the
CUDA context holds. Preset rows are adapted first, exactly as `profile = "auto"` does it.
"""

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from dpo_tui.config.files import from_values
from dpo_tui.config.schema import Config
from dpo_tui.hardware.auto_profile import shrink_to_fit
from dpo_tui.hardware.memory.memory_estimate import CUDA_CONTEXT, GB, estimate
from dpo_tui.hardware.models.lookup import architecture_of, known_models
from dpo_tui.hardware.profiles import SETTINGS, Profile

RESULTS = Path(__file__).with_name("results") / "vram.md"
# Free memory of an idle card as it is sold: 12,282, 16,376 and 24,564 MiB, less 300 MiB that the driver keeps.
CARDS = {12: (12282 - 300) * 2**20, 16: (16376 - 300) * 2**20, 24: (24564 - 300) * 2**20}
ROW_SECONDS = 420
LLAMA_8B, LLAMA_1B = "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.2-1B-Instruct"
TINY = "smoke"


@dataclass(frozen=True)
class Row:
    """One measurement: a model, settings over the defaults, and the card that is imitated."""

    model: str
    card: int
    settings: dict[str, Any]
    name: str = ""


def rows() -> list[Row]:
    """The presets on the cards that they are for, then single settings varied on several families."""
    found = [
        Row(LLAMA_8B, 12, dict(SETTINGS["mid-range"]), "mid-range preset"),
        Row("Qwen/Qwen2.5-7B-Instruct", 12, dict(SETTINGS["mid-range"]), "mid-range preset"),
        Row("mistralai/Mistral-7B-Instruct-v0.3", 12, dict(SETTINGS["mid-range"]), "mid-range preset"),
        Row(LLAMA_8B, 16, dict(SETTINGS["high-end"]), "high-end preset"),
        Row("Qwen/Qwen3-8B", 16, dict(SETTINGS["high-end"]), "high-end preset"),
        Row(LLAMA_8B, 24, dict(SETTINGS["high-end"]), "high-end preset"),
    ]
    small = {"use_4bit": True, "lora_r": 16}
    for model in ("HuggingFaceTB/SmolLM2-135M", "Qwen/Qwen2.5-0.5B-Instruct", LLAMA_1B, "Qwen/Qwen2.5-1.5B-Instruct"):
        found.append(Row(model, 12, small))
        found.append(Row(model, 12, {**small, "use_4bit": False}))
    found += [
        Row("google/gemma-3-1b-it", 12, small),
        Row("google/gemma-2-2b-it", 12, small),
        Row("microsoft/Phi-4-mini-instruct", 12, small),
        Row("allenai/OLMo-2-1124-7B-SFT", 16, small),
        Row(LLAMA_1B, 24, {**small, "gradient_checkpointing": False}),
        Row(LLAMA_1B, 24, {"use_lora": False}),
        Row("Qwen/Qwen2.5-0.5B-Instruct", 24, {"use_lora": False, "precompute_ref_log_probs": True}),
        Row(LLAMA_8B, 24, {**small, "max_seq_length": 4096, "per_device_train_batch_size": 1}),
        Row(LLAMA_8B, 12, {**small, "optim": "paged_adamw_8bit", "lora_r": 64}),
    ]
    return found


def config_of(row: Row) -> Config:
    """The row's config, adapted to the card where it is a preset."""
    base = {"model_name": LLAMA_1B if row.model == TINY else row.model, "dataset": "-", **row.settings}
    made = from_values(base)
    if row.name:
        card = Profile("mid-range", 0, "", {}, (), CARDS[row.card], CARDS[row.card])
        made, _ = shrink_to_fit(made, set(), card)
    return made


def measure(row: Row) -> dict[str, Any]:
    """Build, cap, train two steps. Runs in a child process."""
    import torch
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from dpo_tui.train.model.load import lora_config

    config = config_of(row)
    on_gpu = row.model != TINY
    device = torch.device("cuda", 0) if on_gpu else torch.device("cpu")
    if on_gpu:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(max(0.01, (CARDS[row.card] - CUDA_CONTEXT) / total))
    tokenizer = word_tokenizer()
    model = random_model(row, config, device)
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            output_dir=folder,
            max_steps=2,
            per_device_train_batch_size=config.per_device_train_batch_size,
            gradient_accumulation_steps=1,
            max_length=config.max_seq_length,
            gradient_checkpointing=config.gradient_checkpointing,
            precompute_ref_log_probs=config.precompute_ref_log_probs,
            optim=config.optim,
            bf16=on_gpu,
            use_cpu=not on_gpu,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = DPOTrainer(
            model=model,
            ref_model=None if config.use_lora or config.precompute_ref_log_probs else random_model(row, config, device),
            args=arguments,
            train_dataset=Dataset.from_list(full_pairs(config.max_seq_length, config.per_device_train_batch_size * 2)),
            processing_class=tokenizer,
            peft_config=lora_config(config),
        )
        gc.collect()
        began = time.perf_counter()
        trainer.train()
        seconds = (time.perf_counter() - began) / 2
    if not on_gpu:
        return {"seconds": seconds, "measured": None}
    free, whole = torch.cuda.mem_get_info()
    context = whole - free - torch.cuda.memory_reserved()
    return {
        "seconds": seconds,
        "measured": torch.cuda.max_memory_reserved() + context,
        "allocated": torch.cuda.max_memory_allocated(),
        "context": context,
        "device": torch.cuda.get_device_name(0),
        "torch": torch.__version__,
    }


def random_model(row: Row, config: Config, device: Any) -> Any:
    """The row's architecture with random weights: on the meta device first, then each module put on the device."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    values = dimensions(row.model)
    kind = values.pop("model_type")
    dtype = torch.bfloat16 if config.use_lora and device.type == "cuda" else torch.float32
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, pad_token_id=0, **values), dtype=dtype)
    head = model.get_output_embeddings()
    for name, module in list(model.named_modules()):
        if config.use_4bit and isinstance(module, torch.nn.Linear) and module is not head:
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], packed(module, dtype, device))
            continue
        for key, weight in module.named_parameters(recurse=False):
            setattr(module, key, torch.nn.Parameter(torch.randn(weight.shape, device=device, dtype=dtype) * 0.02))
    model.tie_weights()
    for name, module in list(model.named_modules()):
        if type(module).__name__.endswith("RotaryEmbedding"):
            with torch.device(device):
                fresh = type(module)(model.config)
            setattr(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], fresh)
            continue
        for key, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_meta:
                module.register_buffer(
                    key, torch.ones(buffer.shape, device=device, dtype=buffer.dtype), persistent=False
                )
    if config.use_4bit:
        model.is_loaded_in_4bit = True  # what TRL and peft look at
    model.config.use_cache = False
    return model


def packed(module: Any, dtype: Any, device: Any) -> Any:
    """One linear layer as NF4 with double quantisation, from random weights."""
    import torch
    from bitsandbytes.nn import Linear4bit, Params4bit

    biased = module.bias is not None
    layer = Linear4bit(
        module.in_features,
        module.out_features,
        bias=biased,
        compute_dtype=dtype,
        compress_statistics=True,
        quant_type="nf4",
        device="meta",
    )
    weight = torch.randn((module.out_features, module.in_features), dtype=dtype, device=device) * 0.02
    layer.weight = Params4bit(weight, requires_grad=False, compress_statistics=True, quant_type="nf4", module=layer)
    if biased:
        layer.bias = torch.nn.Parameter(torch.zeros(module.out_features, dtype=dtype, device=device))
    return layer.to(device)


def dimensions(model: str) -> dict[str, Any]:
    """A model's config.json from the shipped table."""
    if model == TINY:
        heads = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128}
        return {"model_type": "llama", "num_hidden_layers": 2, "vocab_size": 512, **heads}
    path = Path(__file__).parents[1] / "dpo_tui" / "hardware" / "models" / "architectures.json"
    return next(dict(entry["config"]) for entry in json.loads(path.read_text()) if model in entry["models"])


def word_tokenizer() -> Any:
    """One token a word, so that lengths are exact."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pad, eos = "<pad>", "<eos>"
    words = {pad: 0, eos: 1} | {f"w{number}": number + 2 for number in range(100)}
    inner = Tokenizer(models.WordLevel(words, unk_token=pad))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=eos, pad_token=pad)


def full_pairs(length: int, count: int) -> list[dict[str, str]]:
    """Pairs of which one answer fills the length and the other nearly: there is padding, as in real batches."""
    prompt = " ".join(f"w{number % 100}" for number in range(16))
    long, short = (" ".join(f"w{number % 97}" for number in range(length - 16 - cut)) for cut in (0, 8))
    return [{"prompt": prompt, "chosen": " " + long, "rejected": " " + short} for _ in range(count)]


def run_row(row: Row) -> dict[str, Any]:
    """Measure one row in a child process; a child that dies is a result, too."""
    command = [sys.executable, __file__, "--row", json.dumps(asdict(row))]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=ROW_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"no result within {ROW_SECONDS} s"}
    if finished.returncode == 0:
        result: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
        return result
    lines = [line for line in finished.stderr.splitlines() if line.strip()]
    if any("OutOfMemoryError" in line or "out of memory" in line for line in lines):
        return {"error": "out of memory under the cap"}
    return {"error": lines[-1][:120] if lines else f"exit {finished.returncode}"}


def table(results: list[tuple[Row, dict[str, Any]]]) -> str:
    """The results page."""
    ratios, lines = [], []
    for row, result in results:
        config = config_of(row)
        guess = estimate(config, architecture_of(config.model_name)).total
        if result.get("measured"):
            ratio = guess / result["measured"]
            ratios.append(abs(ratio - 1))
            figures = (
                f"{guess / GB:.2f} | {result['measured'] / GB:.2f} | {ratio - 1:+.1%} | {result['context'] / GB:.2f}"
            )
        else:
            figures = f"{guess / GB:.2f} | {result.get('error', '—')} | | "
        shape = f"{config.per_device_train_batch_size} × {config.max_seq_length}"
        kind = ("NF4" if config.use_4bit else "bf16") if config.use_lora else "full, fp32"
        rank = str(config.lora_r) if config.use_lora else "—"
        extra = "" if config.gradient_checkpointing else "no checkpointing"
        extra = row.name or extra or (config.optim if config.optim != "adamw_torch" else "")
        lines.append(
            f"| {row.model.rpartition('/')[2]} | {kind} | {rank} | {shape} | {row.card} | {extra} | {figures} |"
        )
    device = next((result["device"] for _, result in results if "device" in result), "no GPU")
    version = next((result["torch"] for _, result in results if "torch" in result), "?")
    summary = "Nothing was measured."
    if ratios:
        within = sum(ratio <= 0.10 for ratio in ratios)
        summary = (
            f"{len(ratios)} rows measured: median error {statistics.median(ratios):.1%}, worst {max(ratios):.1%}, "
            f"{within} within 10 %."
        )
    return "\n".join(
        [
            "# GPU memory: estimated against measured",
            "",
            f"`python benchmarks/vram.py` on {device}, torch {version}, the allocator capped at each card's memory.",
            "Sizes in decimal GB. Measured = the allocator's peak + the CUDA context.",
            "",
            summary,
            "",
            "| model | weights | rank | pairs × tokens | card | | estimated | measured | error | context |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *lines,
            "",
        ]
    )


def main() -> int:
    """Run the rows, or one of them as a child."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose model's name contains this")
    parser.add_argument("--smoke", action="store_true", help="a tiny row on the CPU")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.row:
        print(json.dumps(measure(Row(**json.loads(given.row)))))
        return 0
    if given.smoke:
        settings = {"max_seq_length": 64, "gpus": "none", "use_4bit": True}
        result = run_row(Row(TINY, 12, settings))
        print(f"smoke: {result}")
        return 1 if "error" in result else 0
    chosen = [row for row in rows() if given.only.lower() in row.model.lower()]
    missing = [row.model for row in chosen if row.model not in known_models()]
    if missing:
        print(f"not in the shipped table: {', '.join(missing)}")
        return 2
    if not has_gpu():
        print("torch sees no GPU here: nothing can be measured, and nothing was written")
        return 1
    results = []
    for number, row in enumerate(chosen, start=1):
        results.append((row, run_row(row)))
        print(f"{number}/{len(chosen)} {row.model} {row.name}: {results[-1][1]}", flush=True)
        given.out.write_text(table(results), encoding="utf-8")  # after every row: an interrupted run keeps its results
    print(table(results))
    return 0


def has_gpu() -> bool:
    """Whether torch can use a GPU; asked in a child, so that this process holds no context on it."""
    script = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 1)"
    return subprocess.run([sys.executable, "-c", script], check=False, capture_output=True).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
