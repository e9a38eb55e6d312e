"""Record the files that a version of dpo-tui writes, for tests that later versions can still use them.

    python scripts/record_format.py COMMIT tests/formats/NAME

Checks the commit out into a temporary folder and runs it for real, on the model and the pairs in `tests/formats`: a
run that is done, one that was stopped with a checkpoint, settings of the app, and, where that version has them, a sweep
of two runs. Paths, the machine's name and its boot are replaced in text files; files of a checkpoint stay as they are,
since it has their checksums.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PLACE = Path("/tmp/dpo-tui-formats")  # noqa: S108 - it stands in the files, so it must be the same on every machine
"""Where everything lies while the version runs; tests put their own folder in the place of this path."""
SETTINGS = 'theme = "light"\nascii = false\n\n[notify]\nbell = false\ndesktop = true\n\n[keys]\n"quit" = "ctrl+x"\n'
CONFIG = {
    "model_name": str(PLACE / "model"),
    "dataset": str(PLACE / "pairs.jsonl"),
    "learning_rate": 1e-3,
    "max_seq_length": 128,
    "gradient_accumulation_steps": 1,
    "max_steps": 4,
    "save_steps": 1000,
    "save_total_limit": 1,
    "sample_prompts": 2,
    "sample_max_new_tokens": 4,
    "gpus": "none",
    "lora_r": 2,
    "report_to": [],
}
LARGEST_TEXT = 1 << 20


def main() -> None:
    """Record one version."""
    parser = argparse.ArgumentParser()
    parser.add_argument("commit")
    parser.add_argument("target", type=Path)
    asked = parser.parse_args()
    if PLACE.exists() or asked.target.exists():
        raise SystemExit(f"{PLACE} or {asked.target} exists: remove it first")
    PLACE.mkdir()
    try:
        for name in ("model", "pairs.jsonl"):
            source = ROOT / "tests" / "formats" / name
            shutil.copytree(source, PLACE / name) if source.is_dir() else shutil.copy(source, PLACE / name)
        code = PLACE / "code"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(code)], check=True)
        subprocess.run(["git", "-C", str(code), "checkout", "--quiet", asked.commit], check=True)
        record(code)
        shutil.rmtree(code)
        keep(asked.target)
        when = subprocess.run(
            ["git", "-C", str(ROOT), "show", "-s", "--format=%H %cs", asked.commit],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        (asked.target / "made_by.json").write_text(json.dumps({"commit": when[0], "date": when[1]}) + "\n")
    finally:
        shutil.rmtree(PLACE)


def record(code: Path) -> None:
    """Run the version that is checked out in a folder."""
    environment = {**os.environ, "DPO_TUI_HOME": str(PLACE / "home"), "PYTHONPATH": str(code), "COLUMNS": "100"}
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        environment[name] = str(PLACE / "xdg")

    def dpo_tui(*arguments: str) -> str:
        command = [sys.executable, "-m", "dpo_tui", *arguments]
        ended = subprocess.run(command, check=True, env=environment, cwd=PLACE, capture_output=True, text=True)
        return ended.stdout

    config = PLACE / "config.json"
    config.write_text(json.dumps(CONFIG))
    (PLACE / "home").mkdir()
    (PLACE / "home" / "settings.toml").write_text(SETTINGS)
    dpo_tui("train", str(config), "--name", "done")
    # Enough steps that it can be stopped between two, which take milliseconds.
    dpo_tui(
        "train", str(config), "--name", "stopped", "--detach", "--set", "max_steps=300", "--set", "logging_steps=20"
    )
    stopped = max((PLACE / "home" / "runs").glob("2*"))
    until(lambda: (progress := stopped / "progress.json").exists() and json.loads(progress.read_text()).get("step"))
    (stopped / "control" / "stop").touch()
    if "--sweep" in dpo_tui("train", "--help"):
        dpo_tui("train", str(config), "--name", "sweep", "--yes", "--sweep", "learning_rate=1e-3,1e-4")
    until(lambda: all(one["status"] in ("done", "stopped") for one in json.loads(dpo_tui("runs", "--json"))))


def until(condition: Callable[[], Any]) -> None:
    """Wait until something holds, for ten minutes at most."""
    deadline = time.monotonic() + 600
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("waited for ten minutes in vain")
        time.sleep(0.01)


def keep(target: Path) -> None:
    """Copy the home, without what belongs to this machine."""
    shutil.copytree(PLACE / "home", target / "home", ignore=shutil.ignore_patterns("cache", "*.lock", "merged"))
    for finished in target.glob("home/runs/*/adapter/../checkpoints"):
        if (finished.parent / "adapter").is_dir():
            shutil.rmtree(finished)
    replaced = {
        os.uname().nodename: "box",
        Path("/proc/sys/kernel/random/boot_id").read_text().strip(): "00000000-0000-0000-0000-000000000000",
        str(PLACE / "code"): "/opt/dpo-tui",
        sys.executable: "/opt/venv/bin/python",
        sys.prefix: "/opt/venv",
        sys.base_prefix: "/usr",
        str(ROOT): "/opt/dpo-tui",
        tempfile.gettempdir() + "/": str(PLACE.parent) + "/",
    }
    for path in [one for one in target.rglob("*") if one.is_file() and "checkpoints" not in one.parts]:
        data = path.read_bytes()
        if len(data) > LARGEST_TEXT or b"\0" in data:
            continue
        text = data.decode("utf-8")
        for found, instead in replaced.items():
            text = text.replace(found, instead)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
