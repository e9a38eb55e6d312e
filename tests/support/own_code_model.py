"""A tiny model that is made by Python code in its own folder: a Llama under another name, in two files."""

import json
import shutil
from pathlib import Path

CONFIGURATION = """
from transformers import LlamaConfig


class OwnConfig(LlamaConfig):
    model_type = "own_llama"
"""
MODELING = """
import os

from transformers import LlamaForCausalLM

from .configuration_own import OwnConfig

if os.environ.get("OWN_CODE_RAN"):
    with open(os.environ["OWN_CODE_RAN"], "a") as file:
        file.write(f"{os.getpid()}\\n")


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


def make_own_code_model(tiny_model: Path, folder: Path) -> Path:
    """Copy a Llama, with the code that makes it.

    Every process that runs the code appends its id to the file that ``$OWN_CODE_RAN`` names.
    """
    shutil.copytree(tiny_model, folder)
    (folder / "configuration_own.py").write_text(CONFIGURATION)
    (folder / "modeling_own.py").write_text(MODELING)
    settings = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    settings |= {"model_type": "own_llama", "architectures": ["OwnForCausalLM"], "auto_map": classes}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder
