"""Choice of the fastest attention implementation among several that can share prompts, by measuring each.

Each candidate computes one batch of the training data, forward and backward, in at most 20 seconds for all of them. The
fastest is taken of those that compute what plain TRL computes: their log-probabilities and gradients differ from plain
TRL's no more than plain TRL's differ between batch layouts. :mod:`dpo_tui.train.shortcuts.training_passes` makes the
passes, :mod:`dpo_tui.train.shortcuts.automatic_attention` says between which to choose.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch

from dpo_tui.train.shortcuts.equivalence_check import NOISE_FACTOR, TOLERANCE, largest_difference
from dpo_tui.train.shortcuts.prefix_sharing import REFUSALS, refusal_of
from dpo_tui.train.worker.distributed import values_of_ranks

_SECONDS = 20.0
"""For all candidates together, on the clock."""
# Relative, of the norm. In fp32 both ways agree within 1e-5 (tests/train/shortcuts/test_prefix_sharing.py); a wrong
# mask or position moves gradients by tenths.
_GRADIENT_TOLERANCE = 1e-3
_TIMED = 2
_PLAIN_LAYOUTS = 3


@dataclass(frozen=True)
class PassResult:
    """What a training pass computed.

    Attributes:
        logps: log π(token) of the answers' tokens, fp32.
        gradients: a sample of the trained weights' gradients, always of the same entries, fp32.
    """

    logps: torch.Tensor
    gradients: torch.Tensor


class Passes(Protocol):
    """Forward and backward passes of a trainer's model, without a trace in it."""

    def plain(self) -> Sequence[PassResult]:
        """Compute a batch as plain TRL does, first as it is and then in other layouts."""

    def shared(self, attention: str) -> PassResult:
        """Compute the same batch with shared prompts under an attention implementation."""

    def timed(self, attention: str) -> float:
        """Compute a batch of a step's size with shared prompts; return the seconds that it took."""


@dataclass
class MeasuredAttention:
    """What was measured of an attention implementation; None where it was not.

    Attributes:
        name: as in ``attn_implementation``.
        seconds: for a batch, forward and backward; of several the shortest.
        logps_differ: largest difference of a token's log-probability from plain TRL.
        gradients_differ: norm of the difference of gradients from plain TRL's, as a share of theirs.
        why_not: why it cannot be taken, empty where it can.
    """

    name: str
    seconds: float | None = None
    logps_differ: float | None = None
    gradients_differ: float | None = None
    why_not: str = ""


@dataclass
class AttentionChoice:
    """The attention implementation of a run; a table of ``shortcuts`` in receipt.json.

    Attributes:
        name: of it.
        why: the reason, as a clause.
        candidates: what was measured, empty where nothing was.
        noise: how far plain TRL's own layouts are apart, by the names of the differences of :class:`MeasuredAttention`.
    """

    name: str
    why: str
    candidates: list[MeasuredAttention] = field(default_factory=list)
    noise: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it for receipt.json."""
        found = asdict(self)
        return found if self.candidates else {"name": self.name, "why": self.why}


def passes_of_choice(candidates: int) -> int:
    """Return how many training passes over a batch :func:`choose_attention` makes at most."""
    return _PLAIN_LAYOUTS + candidates * (2 + _TIMED)


def choose_attention(
    names: Sequence[str], passes: Passes, clock: Callable[[], float], limit: float = _SECONDS
) -> AttentionChoice:
    """Measure attention implementations and choose the fastest that computes what plain TRL computes.

    All ranks call this: a candidate counts by the rank on which it is slowest, and where one refuses it, all leave it.

    Args:
        names: of the candidates, the model's own first; it stays where no other is faster.
        passes: of the run's model.
        clock: seconds, once the device has done what it was given.
        limit: seconds for all of it.
    """
    measured, noise = _Measurement(passes, clock, limit).of(names)
    candidates = [_of_all_ranks(list(one)) for one in zip(*values_of_ranks(measured), strict=True)]
    fit = [(one.seconds, one) for one in candidates if one.seconds is not None and not one.why_not]
    if not fit:
        return AttentionChoice(names[0], f"none was measured to the end: {candidates[0].why_not}", candidates, noise)
    # Of equal times the earlier, which is the model's own.
    seconds, best = min(fit, key=lambda pair: pair[0])
    others = ", ".join(f"{one.name} {one.seconds:.3g} s" for one in candidates if one is not best and one.seconds)
    against = f", against {others}" if others else ""
    return AttentionChoice(
        best.name, f"the fastest of those measured, {seconds:.3g} s a batch{against}", candidates, noise
    )


class _OutOfTime(Exception):
    """The next pass may end after the time limit."""


class _Measurement:
    def __init__(self, passes: Passes, clock: Callable[[], float], limit: float) -> None:
        self._passes, self._clock, self._limit = passes, clock, limit
        self._began = clock()
        self._longest = 0.0

    def of(self, names: Sequence[str]) -> tuple[list[MeasuredAttention], dict[str, float]]:
        """Measure candidates; return them with plain TRL's own differences."""
        candidates = [MeasuredAttention(name) for name in names]
        noise: dict[str, float] = {}
        try:
            first, *others = self._within_limit(self._passes.plain)
            noise["logps_differ"] = max(largest_difference(first.logps, other.logps) for other in others)
            noise["gradients_differ"] = max(_gradients_differ(first, other) for other in others)
        except (_OutOfTime, *REFUSALS) as error:
            for candidate in candidates:
                candidate.why_not = self._reason(error)
            return candidates, noise
        for candidate in candidates:
            try:
                self._measure(candidate, first, noise)
            except (_OutOfTime, *REFUSALS) as error:
                candidate.why_not = self._reason(error)
        return candidates, noise

    def _measure(self, candidate: MeasuredAttention, plain: PassResult, noise: dict[str, float]) -> None:
        found = self._within_limit(lambda: self._passes.shared(candidate.name))
        candidate.logps_differ = largest_difference(plain.logps, found.logps)
        candidate.gradients_differ = _gradients_differ(plain, found)
        tolerances = {"logps_differ": TOLERANCE, "gradients_differ": _GRADIENT_TOLERANCE}
        for name, tolerance in tolerances.items():
            # Half precision rounds differently in every layout, so one more layout may differ as much; where padding
            # happens to keep the order of all sums, plain TRL's own difference is 0, and the tolerance stands alone.
            if (difference := getattr(candidate, name)) > max(tolerance, NOISE_FACTOR * noise[name]):
                what = "log-probabilities" if name == "logps_differ" else "gradients"
                candidate.why_not = (
                    f"{what} differ by {difference:.2g} from plain TRL's, which differ by {noise[name]:.2g} themselves"
                )
                return
        # The first pass of a size chooses and compiles kernels.
        self._within_limit(lambda: self._passes.timed(candidate.name))
        times = [self._within_limit(lambda: self._passes.timed(candidate.name)) for _ in range(_TIMED)]
        candidate.seconds = min(times)

    def _within_limit(self, make: Callable[[], Any]) -> Any:
        """Make passes that take no longer than the longest so far, if they then end before the limit."""
        began = self._clock()
        if began - self._began + self._longest > self._limit:
            raise _OutOfTime(f"{self._limit:g} s were over")
        result = make()
        self._longest = max(self._longest, self._clock() - began)
        return result

    @staticmethod
    def _reason(error: Exception) -> str:
        if isinstance(error, torch.OutOfMemoryError):
            return "the GPU's memory is too small for it"
        return str(error) if isinstance(error, _OutOfTime) else refusal_of(error) or str(error)


def _gradients_differ(plain: PassResult, other: PassResult) -> float:
    size = plain.gradients.norm().item()
    difference = (plain.gradients - other.gradients).norm().item()
    share = difference / size if size else difference
    # NaN compares false with every tolerance: it must not pass as agreement.
    return share if share == share else float("inf")  # noqa: PLR0124 - only NaN differs from itself


def _of_all_ranks(found: list[MeasuredAttention]) -> MeasuredAttention:
    """Return one candidate for what every rank has measured of it: the slowest, the largest differences."""

    def largest(name: str) -> float | None:
        values = [getattr(one, name) for one in found]
        return None if None in values else max(values)

    why_not = next((one.why_not for one in found if one.why_not), "")
    differences = largest("logps_differ"), largest("gradients_differ")
    return MeasuredAttention(found[0].name, largest("seconds"), *differences, why_not)
