"""Names and sizes, held over the syntax tree: the terms of the field, and unique names of modules and classes."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.repository import ROOT

PACKAGE = ROOT / "dpo_tui"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name not in ("__init__.py", "__main__.py"))
LONGEST = 400
"""Lines of a module."""

# Invented or ambiguous words that names had before, each with what the field calls it.
INVENTED = {
    "allowance": "time_budget",
    "alarm": "signal_wait",
    "box": "machine_facts",
    "circumstances": "doctor_options",
    "crew": "process_pool",
    "deciding": "scheduling_lock",
    "elements": "json_splitter",
    "examine": "scan_chunk",
    "examined": "chunk_stats",
    "examiner": "chunk_scanner",
    "fate": "key_outcome",
    "gather": "batch_pairs",
    "gathered": "pair_batch",
    "gatherer": "pair_batcher",
    "hopeless": "unusable",
    "kept": "append_log",
    "looks": "in_training_evaluation",
    "papers": "documents",
    "parcel": "upload_manifest",
    "portion": "chunk",
    "portions": "chunks",
    "referee": "judge_model",
    "spared": "skipped_imports",
    "speak": "generate",
    "speaker": "generator",
    "speaking": "active_model",
    "surprises": "mismatches",
    "suspicions": "unusual_characters",
    "telling": "probe",
    "texts": "text_column",
    "told": "reported",
    "watchman": "status_change_detector",
    "words": "message, text, query or terms",
}
WHOLE_NAMES_ONLY = {
    "elements",
    "kept",
    "texts",
    "words",
    "looks",
    "turn",
    "pace",
    "head",
    "agreement",
    "spikes",
    "tell",
}
"""Ordinary inside a longer name (``special_tokens_texts``, ``has_fused_head``), misleading as the whole of one."""
PHRASES = {
    "for_a_reader": "printable",
    "nothing_is_garbage": "collector_paused",
    "run_in_hand": "current_run",
    "typed_lines": "columnar decoder",
}
"""Names of ordinary words that say nothing together."""
SAME_BASENAME_ALLOWED = {"registry", "judge"}
"""Every package that has a registry calls its module so; a judge is an interface, and `dpo-tui judge` a command."""


def names_in(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of every class, function and parameter of a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


def words_of(name: str) -> list[str]:
    """The words of a snake_case or CamelCase name, in lower case."""
    return re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())


def offence(name: str) -> str | None:
    """What is wrong with a name; ``None`` when nothing is."""
    words = words_of(name)
    if instead := PHRASES.get("_".join(words)):
        return f"{name}: say {instead}"
    for word in words:
        whole = len(words) == 1
        if word in INVENTED | dict.fromkeys(WHOLE_NAMES_ONLY) and (whole or word not in WHOLE_NAMES_ONLY):
            return f"{name}: say {INVENTED.get(word, 'what it is')}"
    return None


def test_no_module_class_function_or_parameter_has_an_invented_name() -> None:
    found = [f"{path.relative_to(ROOT)}: {wrong}" for path in MODULES if (wrong := offence(path.stem))]
    for path in MODULES:
        found += [
            f"{path.relative_to(ROOT)}:{line}: {wrong}" for line, name in names_in(path) if (wrong := offence(name))
        ]
    assert found == []


@pytest.mark.parametrize("name", ["Gatherer", "_told_reason", "words", "train_looks", "spared", "_for_a_reader"])
def test_invented_names_are_noticed(name: str) -> None:
    assert (offence(name) is None) == (name == "train_looks")


def test_module_names_are_unique() -> None:
    counts = Counter(path.stem for path in MODULES)
    assert [name for name, count in counts.items() if count > 1 and name not in SAME_BASENAME_ALLOWED] == []


def test_public_class_names_are_unique() -> None:
    counts = Counter(
        node.name
        for path in MODULES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in counts.items() if count > 1] == []


def test_no_module_is_longer_than_one_idea() -> None:
    long = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: lines for name, lines in long.items() if lines > LONGEST} == {}


def test_nothing_refers_to_a_document_outside_the_repository() -> None:
    pattern = re.compile(r"(?<![-\w])R\d{1,2}\b|\bFACTS\b|\bDESIGN\b|\bissue \d+")
    files = [
        *MODULES,
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "tests").rglob("*.py"),
        *(ROOT / "scripts").rglob("*.py"),
    ]
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []
