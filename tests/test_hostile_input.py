"""Whatever bytes are read: the product's own errors, and nothing else."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.hostile_folders import FOLDER_READERS
from tests.support.hostile_input import READERS, SEEDS, read

CORPUS = Path(__file__).parent / "corpus"
"""Inputs that once were faults, by reader."""
_KEYS = sorted(
    {
        *("prompt", "chosen", "rejected", "completion", "label", "messages", "role", "content", "tools", "tool_calls"),
        *(
            "id",
            "name",
            "status",
            "step",
            "loss",
            "time",
            "kind",
            "version",
            "prompts",
            "seed",
            "held_out",
            "model_name",
        ),
        *(
            "dataset",
            "log_history",
            "choices",
            "message",
            "usage",
            "eos_token",
            "added_tokens",
            "model",
            "vocab",
            "score",
        ),
    }
)
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4),
    max_leaves=8,
)
_DOCUMENTS = st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=6)


def _json(value: object) -> bytes:
    import json

    return json.dumps(value).encode()


@pytest.mark.parametrize("name", READERS)
def test_what_once_was_a_fault_is_none(name: str, home: Path) -> None:
    for data in (*SEEDS[name], b"", b"\x00", *(file.read_bytes() for file in sorted((CORPUS / name).glob("*")))):
        read(name, data)


@pytest.mark.parametrize("name", FOLDER_READERS)
def test_a_folder_as_it_should_be_is_read_to_its_end(name: str, home: Path) -> None:
    # A reader that refuses one file of the folder never reaches what is done with the others.
    for data in SEEDS[name]:
        READERS[name](data)


def _examples(count: int) -> settings:
    return settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", sorted(READERS))
@_examples(8)
@given(kind=st.integers(0, 9), document=_DOCUMENTS)
def test_documents_of_any_shape_are_read_or_refused(name: str, kind: int, document: dict[str, object]) -> None:
    read(name, bytes([kind]) + _json(document) + b"\n")
    read(name, _json(document))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(READERS))
@_examples(150)
@given(kind=st.integers(0, 9), document=_DOCUMENTS, cut=st.integers(0, 200), noise=st.binary(max_size=6))
def test_torn_and_changed_documents_are_read_or_refused(
    name: str, kind: int, document: dict[str, object], cut: int, noise: bytes
) -> None:
    data = bytes([kind]) + _json(document)
    read(name, data[:cut] + noise + data[cut:] + b"\n" + data[:cut])
