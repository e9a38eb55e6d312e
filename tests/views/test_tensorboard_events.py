"""TensorBoard's records: what is read of damaged ones."""

import struct

from dpo_tui.views.tensorboard_events import scalars

_VALUE = b"\x0a\x04loss\x15" + struct.pack("<f", 0.5)
_SUMMARY = b"\x2a" + bytes([len(_VALUE) + 2]) + b"\x0a" + bytes([len(_VALUE)]) + _VALUE


def _event(step: bytes) -> bytes:
    return b"\x10" + step + _SUMMARY


def test_a_step_of_ten_bytes_is_read_and_one_of_more_is_damage() -> None:
    # Of a damaged file a whole chunk may be one number, which takes time by the square of its length.
    assert [line["step"] for line in scalars(_event(b"\x80" * 9 + b"\x01"))] == [1 << 63]
    assert scalars(_event(b"\x80" * 10 + b"\x01")) == []
