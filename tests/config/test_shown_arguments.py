"""`config show --all`: what the settings become for each library, with where each value came from."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dpo_tui.cli import cli

FILE = """
model_name = "m"
dataset = "d"
gpus = "none"
learning_rate = 2e-6
max_seq_length = 512
use_4bit = true
lora_r = 8
lora_target_modules = ["q_proj"]
eval_split = 0.1
[trl]
neftune_noise_alpha = 5
[peft]
bias = "all"
[model_init]
use_safetensors = true
"""


def rows(output: str) -> dict[str, dict[str, tuple[str, str]]]:
    """Value and origin of each argument, by library."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for part in re.split(r"\n\n(?=\S)", output)[1:]:
        library, *lines = part.splitlines()
        split = [re.split(r"\s{1,}", line.strip(), maxsplit=1) for line in lines]
        found[library] = {name: _value_and_origin(rest) for name, rest in split}
    return found


def _value_and_origin(rest: str) -> tuple[str, str]:
    value, origin = re.match(r"(.*?)\s+((?:\S+ \([^)]+\))|dpo-tui|library)$", rest).groups()  # type: ignore[union-attr]
    return value, origin


@pytest.mark.usefixtures("tools_in_process")
def test_every_argument_has_its_value_and_its_source(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(FILE)
    said = CliRunner().invoke(cli, ["config", "show", "--all", str(path)], catch_exceptions=False)
    found = rows(said.stdout)
    trl, lora, loading = found["DPOConfig"], found["LoraConfig"], found["from_pretrained"]
    assert trl["learning_rate"] == ("2e-06", "learning_rate (file)")
    assert trl["max_length"] == ("512", "max_seq_length (file)")
    assert trl["neftune_noise_alpha"] == ("5", "[trl] (file)")
    assert trl["adam_beta2"] == ("0.999", "adam_beta2 (default)")
    assert trl["warmup_steps"] == ("0.1", "warmup_ratio (default)")
    assert trl["disable_tqdm"] == ("true", "dpo-tui")
    assert trl["torch_compile"] == ("false", "library")
    assert trl["output_dir"][0] == '"RUN/checkpoints"'
    assert lora["r"] == ("8", "lora_r (file)") and lora["bias"] == ('"all"', "[peft] (file)")
    assert lora["lora_alpha"] == ("16", "lora_alpha (default)")
    assert lora["task_type"] == ('"CAUSAL_LM"', "dpo-tui")
    assert loading["use_safetensors"] == ("true", "[model_init] (file)")
    assert loading["dtype"] == ('"torch.float32"', "bf16 (default)")
    assert found["BitsAndBytesConfig"]["load_in_4bit"] == ("true", "use_4bit (file)")
    assert found["BitsAndBytesConfig"]["bnb_4bit_quant_type"] == ('"nf4"', "dpo-tui")


def test_the_command_itself_imports_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(FILE)
    code = (
        "import sys\nfrom dpo_tui.cli import cli\n"
        "try: cli(['config', 'show', '--all', sys.argv[1]])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'trl', 'peft', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]" and "DPOConfig" in done.stdout


@pytest.mark.usefixtures("tools_in_process")
@pytest.mark.parametrize(("strategy", "library"), [("sft", "SFTConfig"), ("kto", "KTOConfig"), ("simpo", "CPOConfig")])
def test_each_strategy_shows_its_own_class(tmp_path: Path, strategy: str, library: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(f'model_name = "m"\ndataset = "d"\ngpus = "none"\nstrategy = "{strategy}"\nuse_lora = false\n')
    said = CliRunner().invoke(cli, ["config", "show", "--all", str(path)], catch_exceptions=False).stdout
    assert f"\n{library}\n" in said and "\nLoraConfig\n" not in said
