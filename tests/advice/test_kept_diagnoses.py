"""Diagnoses of runs that are over are made once, and anew when a file of the run or the rules have changed."""

from pathlib import Path

import pytest

from dpo_tui.advice import evidence, kept_diagnoses
from dpo_tui.advice.diagnose import as_event, diagnose
from dpo_tui.advice.kept_diagnoses import READ, KeptDiagnoses
from tests.support.app import ended_run


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders of which a diagnosis was made."""
    folders: list[Path] = []

    def counted(folder: Path) -> list:
        folders.append(folder)
        return diagnose(folder)

    monkeypatch.setattr(kept_diagnoses, "diagnose", counted)
    return folders


def test_a_diagnosis_is_made_once_and_is_the_same_from_the_cache(home: Path, made: list[Path]) -> None:
    folder = ended_run(home, "20261101-101010-aaaa", "tone").path
    for _ in range(2):
        kept = KeptDiagnoses()
        assert kept.event_of(folder) == as_event(diagnose(folder)[0])
        kept.save()
    assert made == [folder]


@pytest.mark.parametrize("name", READ)
def test_a_change_of_any_file_that_it_is_made_from_makes_it_anew(home: Path, made: list[Path], name: str) -> None:
    folder = ended_run(home, "20261101-101010-aaaa", "tone").path
    kept = KeptDiagnoses()
    kept.event_of(folder)
    kept.save()
    with (folder / name).open("a") as stream:
        stream.write(" ")
    KeptDiagnoses().event_of(folder)
    assert made == [folder, folder]


def test_other_rules_and_a_damaged_file_make_all_anew(
    home: Path, made: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ended_run(home, "20261101-101010-aaaa", "tone").path
    kept = KeptDiagnoses()
    kept.event_of(folder)
    kept.save()
    monkeypatch.setattr(kept_diagnoses, "__version__", "another")
    KeptDiagnoses().event_of(folder)
    monkeypatch.undo()
    kept._path.write_text("{")
    assert KeptDiagnoses().event_of(folder) == as_event(diagnose(folder)[0])
    assert len(made) == 2


def test_every_file_that_evidence_reads_is_looked_at(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ended_run(home, "20261101-101010-aaaa", "tone").path
    read: set[str] = set()
    for name in ("read_json", "_read_json_lines", "read_settings"):
        original = getattr(evidence, name)

        def counted(path: Path, *rest: object, original=original) -> object:
            read.add(path.name)
            return original(path, *rest)

        monkeypatch.setattr(evidence, name, counted)
    evidence.read_evidence(folder)
    assert read == set(READ)
