"""Numbers as text: settings, chart values, step counts, model sizes. Standard library only."""

from math import isfinite, isnan

_SUFFIXES = ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))
"""From which value on a suffix is used, its unit, and the suffix: 1234 stays as it is, 12,340 becomes 12.3k."""
_LARGEST, _SMALLEST = 1e15, 1e-3
"""Outside this range a number is written with an exponent."""


def plain_number(value: float) -> str:
    """A setting or threshold in its shortest form: 0.1, 2, 5e-7 (where Python writes 5e-07)."""
    return f"{value:zg}".replace("e-0", "e-")


def short_number(value: float, digits: int = 3) -> str:
    """A measured value in as few characters as its digits need: 0.512, 12.3, 24.5k, 5e-7.

    Args:
        value: any float.
        digits: significant digits to keep.
    """
    if isnan(value):
        return "NaN"
    if not isfinite(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    if size == 0:
        return "0"
    if size >= _LARGEST or size < _SMALLEST:
        mantissa, exponent = f"{value:.{max(digits - 2, 0)}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}"
    for limit, unit, suffix in _SUFFIXES:
        if size >= limit:
            return _significant(value / unit, digits) + suffix
    return _significant(value, digits)


def grouped_number(value: float) -> str:
    """A count rounded to a whole number, with its thousands separated: 1,125."""
    return f"{round(value):,}"


def whole_percent(share: float) -> int:
    """A share of a whole in percent, rounded down: 100 only where all is done."""
    # Without the margin 0.29 would be 28.
    return int(share * 100 + 1e-9)


def parameter_count(count: int) -> str:
    """The size of a model in parameters: ``8.03 B``, ``134.5 M``."""
    return f"{count / 1e9:.2f} B" if count >= 500_000_000 else f"{count / 1e6:.1f} M"  # noqa: PLR2004 (half a billion)


def _significant(value: float, digits: int) -> str:
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    decimals = max(digits - whole, 0)
    text = f"{value:.{decimals}f}"
    # Rounding may add a digit in front (9.996 → 10.00): drop one behind it.
    if decimals and len(text.lstrip("-").replace(".", "").lstrip("0")) > digits:
        text = f"{value:.{decimals - 1}f}"
    return text
