"""The Dockerfile, read and not built: no Docker engine is needed. Its shell commands are checked by sh."""

import json
import re
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.support.repository import ROOT

INSTRUCTIONS = {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "ENV", "VOLUME", "USER", "ENTRYPOINT"}


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each build stage, by its name."""
    text = "\n".join(line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#"))
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            if word == "FROM":
                name = rest.split(" AS ")[1]
                found[name] = []
            found[name].append((word, rest.strip()))
    return found


STAGES = stages()


@pytest.mark.parametrize("stage", ["cpu", "cuda"])
def test_a_stage_installs_what_the_project_names(stage: str) -> None:
    steps = STAGES[stage]
    assert {word for word, _ in steps} <= INSTRUCTIONS
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    for source in (one for word, rest in steps if word == "COPY" for one in rest.split()[:-1]):
        assert (ROOT / source).exists() and source in sent, source
    commands = " ".join(rest for word, rest in steps if word == "RUN")
    for word, rest in steps:
        if word == "RUN":
            checked = subprocess.run(["sh", "-n", "-c", rest], check=False, capture_output=True, text=True)
            assert checked.returncode == 0, checked.stderr
    (torch,) = re.findall(r"'(torch[^']+)'", commands)
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert Requirement(torch) in map(Requirement, declared)
    assert re.search(r"^torch==", (ROOT / "constraints.txt").read_text(), re.M), "what grep leaves out"


@pytest.mark.parametrize("stage", ["cpu", "cuda"])
def test_a_container_runs_as_a_user_without_rights_and_keeps_its_runs_on_the_volume(stage: str) -> None:
    values = {word: rest for word, rest in STAGES[stage]}  # the last of a kind counts
    assert values["USER"] not in ("root", "0") and f" {values['USER']} " in " ".join(
        rest + " " for word, rest in STAGES[stage] if word == "RUN" and "useradd" in rest
    )
    assert json.loads(values["ENTRYPOINT"]) == ["dpo-tui"]
    variables = dict(one.split("=", 1) for one in values["ENV"].split())
    assert variables["DPO_TUI_HOME"].startswith(f"{values['VOLUME']}/")
    assert variables["HF_HOME"].startswith(f"{values['VOLUME']}/")
