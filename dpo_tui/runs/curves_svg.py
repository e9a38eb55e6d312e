"""Training curves of a run as one SVG image, for model cards and reports, without fonts, scripts or external resources.

Standard library only.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_PANELS = (
    ("loss", (("loss", "training"), ("eval_loss", "held out"))),
    ("preference accuracy", (("rewards/accuracies", "training"), ("eval_rewards/accuracies", "held out"))),
    ("reward margin", (("rewards/margins", "training"), ("eval_rewards/margins", "held out"))),
    ("KL to the reference (estimate)", (("eval_kl", "nats an answer"),)),
)
# In pixels: of a panel, then its margins.
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 360, 200, 46, 30, 24
_COLOURS = ("#3b6fb6", "#c2571a")
_XML_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Characters that no XML document may have, and controls that none should."""
_MAX_POINTS = 300
"""Points of a line; more than a panel has pixels for only make the file larger."""


def curves_svg(metrics: Sequence[Mapping[str, Any]], title: str) -> str:
    """Return the SVG document; panels without a number are left out.

    Args:
        metrics: lines of metrics.jsonl, in order.
        title: above the panels.
    """
    panels = [(name, [(label, _points(metrics, key)) for key, label in lines]) for name, lines in _PANELS]
    drawn = [(name, [line for line in lines if line[1]]) for name, lines in panels]
    drawn = [(name, lines) for name, lines in drawn if lines]
    rows = (len(drawn) + 1) // 2
    width, height = 2 * _WIDTH, rows * _HEIGHT + 26
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="17" font-size="13">{escape(_XML_CONTROLS.sub("�", title))}</text>',
    ]
    for place, (name, lines) in enumerate(drawn):
        x, y = (place % 2) * _WIDTH, 26 + (place // 2) * _HEIGHT
        parts.append(f'<g transform="translate({x} {y})">{_panel(name, lines)}</g>')
    return "\n".join([*parts, "</svg>\n"])


def _points(metrics: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    """Return (step, value) of a metric, thinned out evenly; the last one stays."""
    points = [
        (float(line["step"]), float(line[key]))
        for line in metrics
        if isinstance(line.get(key), (int, float)) and isinstance(line.get("step"), int) and line[key] == line[key]
    ]
    every = max(1, len(points) // _MAX_POINTS)
    return points[::every] if (len(points) - 1) % every == 0 else [*points[::every], points[-1]]


def _panel(name: str, lines: list[tuple[str, list[tuple[float, float]]]]) -> str:
    steps = [step for _, points in lines for step, _ in points]
    values = [value for _, points in lines for _, value in points]
    first, last = min(steps), max(steps)
    low, high = min(values), max(values)
    if high == low:
        low, high = low - 0.5, high + 0.5
    width, height = _WIDTH - _LEFT - 12, _HEIGHT - _TOP - _BOTTOM

    def place(step: float, value: float) -> str:
        across = _LEFT + width * (step - first) / ((last - first) or 1)
        return f"{across:.1f},{_TOP + height * (high - value) / (high - low):.1f}"

    parts = [f'<text x="{_LEFT}" y="14">{escape(name)}</text>']
    for value in (low, (low + high) / 2, high):
        y = _TOP + height * (high - value) / (high - low)
        parts.append(f'<line x1="{_LEFT}" x2="{_LEFT + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end" fill="#555555">{value:.3g}</text>')
    for step, anchor in ((first, "start"), (last, "end")):
        x = _LEFT + (width if anchor == "end" else 0)
        parts.append(f'<text x="{x}" y="{_HEIGHT - 8}" text-anchor="{anchor}" fill="#555555">{step:.0f}</text>')
    for number, (label, points) in enumerate(lines):
        colour = _COLOURS[number]
        path = " ".join(place(step, value) for step, value in points)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{path}"/>')
        x = _LEFT + width - 110 + 60 * number
        parts.append(f'<text x="{x}" y="14" fill="{colour}">{escape(label)}</text>')
    return "".join(parts)
