"""TensorBoard event files, byte for byte as its writer lays them out."""

import struct


def scalar_record(step: int, tag: str, value: float) -> bytes:
    """One TFRecord that holds one scalar; the checksums are zero."""
    scalar = b"\x0a" + bytes([len(tag)]) + tag.encode() + b"\x15" + struct.pack("<f", value)
    summary = b"\x0a" + bytes([len(scalar)]) + scalar
    event = b"\x09" + struct.pack("<d", 1.0) + b"\x10" + bytes([step]) + b"\x2a" + bytes([len(summary)]) + summary
    return struct.pack("<Q", len(event)) + bytes(4) + event + bytes(4)
