"""The parts of benchmarks/gpu.py, in the order in which they run: most valuable first."""

from benchmarks.gpu_parts import exactness, hardware, kernels, memory, profiling, speed, start_up, worker
from benchmarks.gpu_parts.session import Part

PARTS: tuple[Part, ...] = (
    hardware.PART,
    kernels.PART,
    start_up.PART,
    worker.PART,
    memory.PART,
    speed.PART,
    profiling.PART,
    exactness.PART,
)


def chosen(text: str) -> tuple[Part, ...]:
    """Return the parts that a comma-separated list names, by letter or by name, in their own order.

    Raises:
        ValueError: it names none, or one that is not there.
    """
    wanted = [word.strip() for word in text.split(",") if word.strip()]
    known = {key for part in PARTS for key in (part.letter, part.name)}
    if not wanted or (unknown := [word for word in wanted if word not in known]):
        names = ", ".join(f"{part.letter} ({part.name})" for part in PARTS)
        what = f"no part is called {', '.join(unknown)}" if wanted else "no part is named"
        raise ValueError(f"{what}; there are {names}")
    return tuple(part for part in PARTS if part.letter in wanted or part.name in wanted)
