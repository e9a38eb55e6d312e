"""Shell commands that serve a run's result with vLLM, llama.cpp and Ollama.

Checked against vLLM (`vllm/config/lora.py`), llama.cpp (`convert_*_to_gguf.py`) and Ollama (`docs/import.md`).
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from dpo_tui.config.schema import Config

Commands = list[tuple[str, list[str]]]
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM accepts as --max-lora-rank; an adapter's rank may be any up to that."""
_MERGE = "merge first: dpo-tui export RUN --to DIR --merge"


@dataclass(frozen=True)
class ServedModel:
    """An adapter or a whole model to serve.

    Attributes:
        folder: its path, as the commands are to name it.
        name: under which it is served.
        base: base model of an adapter, a hub id or a folder; empty for a whole model.
        rank: of the adapter.
        local: whether the base is a folder of this machine and not a hub id.
        obstacle: why servers cannot load the adapter unmerged; empty where they can.
        own_ends: whether the adapter's folder has settings of generation, because its answers end with another token
            than those of its base.
        gguf_file: name of the GGUF file that the folder holds; empty where it holds a model of transformers.
    """

    folder: str
    name: str
    base: str = ""
    rank: int = 16
    local: bool = False
    obstacle: str = ""
    own_ends: bool = False
    gguf_file: str = ""

    @staticmethod
    def of(config: Config, folder: str, base: str = "", gguf_file: str = "") -> "ServedModel":
        """Describe the result of a run with this config: an adapter if ``base`` is given, else a whole model."""
        obstacle = "servers take no DoRA" if config.use_dora else ""
        if config.modules_to_save:
            obstacle = "servers take no whole modules in an adapter"
        local = Path(config.model_name).is_absolute()
        return ServedModel(folder, config.name or "tuned", base, config.lora_r, local, obstacle, gguf_file=gguf_file)


def commands(served: ServedModel) -> Commands:
    """Return (program, lines for a shell) for vLLM, llama.cpp and Ollama."""
    if served.gguf_file:
        return _gguf(served)
    return _adapter(served) if served.base else _whole(served)


def _gguf(served: ServedModel) -> Commands:
    file, name = shlex.quote(f"{served.folder}/{served.gguf_file}"), _name(served.name)
    return [
        ("llama.cpp", [f"llama-server -m {file}"]),
        (
            "Ollama",
            [
                f"echo {shlex.quote(f'FROM {served.folder}/{served.gguf_file}')} > Modelfile",
                f"ollama create {name} -f Modelfile && ollama run {name}",
            ],
        ),
    ]


def _whole(served: ServedModel) -> Commands:
    folder, name = shlex.quote(served.folder), _name(served.name)
    return [
        ("vLLM", [f"vllm serve {folder} --served-model-name {name}"]),
        (
            "llama.cpp",
            [f"python convert_hf_to_gguf.py {folder} --outfile {name}.gguf", f"llama-server -m {name}.gguf"],
        ),
        (
            "Ollama",
            [
                f"echo {shlex.quote('FROM ' + served.folder)} > Modelfile",
                f"ollama create {name} -f Modelfile && ollama run {name}",
                f"# if it does not know the architecture: FROM ./{name}.gguf, made as for llama.cpp",
            ],
        ),
    ]


def _adapter(served: ServedModel) -> Commands:
    if served.obstacle:
        return [(program, [f"# {served.obstacle}; {_MERGE}"]) for program in ("vLLM", "llama.cpp", "Ollama")]
    folder, base, name = shlex.quote(served.folder), shlex.quote(served.base), _name(served.name)
    rank = f" --max-lora-rank {allowed}" if (allowed := vllm_rank(served.rank)) else ""
    fetch = [] if served.local else [f"hf download {base} --local-dir base"]
    place = base if served.local else "base"
    # vLLM reads the settings of the base unless it is given a folder with others.
    ends = f" --generation-config {folder}" if served.own_ends else ""
    return [
        ("vLLM", [f"vllm serve {base} --enable-lora{rank} --lora-modules {name}={folder}{ends}"]),
        (
            "llama.cpp",
            [
                *fetch,
                f"python convert_hf_to_gguf.py {place} --outfile base.gguf",
                f"python convert_lora_to_gguf.py {folder} --base {place} --outfile {name}-lora.gguf",
                f"llama-server -m base.gguf --lora {name}-lora.gguf",
            ],
        ),
        ("Ollama", [f"# it takes adapters of few architectures; {_MERGE}"]),
    ]


def vllm_rank(rank: int) -> int | None:
    """Return the smallest --max-lora-rank that takes an adapter of this rank; None above the largest."""
    return next((allowed for allowed in _RANKS if allowed >= rank), None)


def _name(name: str) -> str:
    """Return the name in characters that every server accepts: letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "tuned"
