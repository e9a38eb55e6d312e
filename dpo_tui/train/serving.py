"""The exact commands that serve what a run made: the answer to "what do I do with it now?"."""

import shlex
from dataclasses import dataclass


@dataclass(frozen=True)
class Served:
    """What is to be served.

    Attributes:
        folder: where it lies, as it is to be written in a command.
        name: what to call it.
        base: the base model, of an adapter; empty for a whole model.
        rank: of the adapter.
    """

    folder: str
    name: str
    base: str = ""
    rank: int = 16


def commands(served: Served) -> list[tuple[str, list[str]]]:
    """Return (program, lines for a shell) for vLLM, llama.cpp and Ollama."""
    folder, base = shlex.quote(served.folder), shlex.quote(served.base)
    name = shlex.quote(served.name)
    if not served.base:
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
                ],
            ),
        ]
    return [
        (
            "vLLM",
            [f"vllm serve {base} --enable-lora --max-lora-rank {served.rank} --lora-modules {name}={folder}"],
        ),
        (
            "llama.cpp",
            [
                f"python convert_lora_to_gguf.py {folder} --base-model-id {base} --outfile {name}-lora.gguf",
                f"llama-server -m BASE.gguf --lora {name}-lora.gguf",
            ],
        ),
        (
            "Ollama",
            [f"ollama takes adapters of few architectures only: merge first (dpo-tui export … --merge) for {name}"],
        ),
    ]
