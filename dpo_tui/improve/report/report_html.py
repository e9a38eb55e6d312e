"""The report as one HTML file, with curves as inline SVG: it loads nothing and runs nothing."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from dpo_tui.improve.round_verdicts import AGAINST_START, JUDGE
from dpo_tui.runs.curves_svg import curves_svg

_STYLE = """\
body { font: 15px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; } td, th { border: 1px solid #ccc; padding: .2rem .6rem; text-align: left; }
pre { background: #f5f5f5; padding: .6rem; white-space: pre-wrap; overflow-wrap: anywhere; }
code { background: #f5f5f5; } svg { max-width: 100%; height: auto; }"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Content Security Policy: nothing is loaded and no script runs, whatever an answer of a model contains."""
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 420, 200, 40, 28
_COLOUR = "#3b6fb6"


def report_html(markdown: str, figures: Mapping[str, Any]) -> str:
    """Return the text of ``report.html``.

    Args:
        markdown: the report as text, of the few forms that `dpo_tui.improve.report.report_markdown` writes.
        figures: for the charts.
    """
    title = escape(str(figures["plan"]["name"]))
    charts = [_win_rates(figures["rounds"])] if figures["rounds"] else []
    for one in figures["rounds"]:
        lines = [{"step": int(step), name: value} for name, points in one["curves"].items() for step, value in points]
        charts.append(f"<h3>Round {one['number']}: training</h3>{curves_svg(lines, str(one['run']))}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><style>{_STYLE}</style></head><body>\n'
        f"{_body(markdown)}\n<h2>Curves</h2>\n{''.join(charts)}\n</body></html>\n"
    )


def _body(markdown: str) -> str:
    """The report as HTML. Every text is escaped; what `report_markdown` escaped for Markdown is undone first."""
    parts: list[str] = []
    lines = markdown.split("\n")
    place = 0
    while place < len(lines):
        line = lines[place]
        if line.startswith("```"):
            end = lines.index(line, place + 1)
            parts.append(f"<pre>{escape(chr(10).join(lines[place + 1 : end]))}</pre>")
            place = end
        elif line.startswith("|"):
            end = next((n for n in range(place, len(lines)) if not lines[n].startswith("|")), len(lines))
            parts.append(_table(lines[place:end]))
            place = end - 1
        elif line.startswith("#"):
            level = len(line) - len(line.lstrip("#"))
            parts.append(f"<h{level}>{_inline(line.lstrip('# '))}</h{level}>")
        elif line.startswith("- "):
            parts.append(f"<p>• {_inline(line[2:])}</p>")
        elif line:
            parts.append(f"<p>{_inline(line)}</p>")
        place += 1
    return "\n".join(parts)


def _table(lines: Sequence[str]) -> str:
    rows = [[cell.strip() for cell in line.strip("| ").replace("\\|", "\0").split("|")] for line in lines]
    head, body = rows[0], rows[2:]
    html = "".join(f"<th>{_inline(cell)}</th>" for cell in head)
    rest = "".join(f"<tr>{''.join(f'<td>{_inline(cell)}</td>' for cell in row)}</tr>" for row in body)
    return f"<table><tr>{html}</tr>{rest}</table>".replace("\0", "|")


def _inline(text: str) -> str:
    pieces = escape(text.replace("&lt;", "<").replace("\\|", "|").replace("\\[", "[")).split("`")
    return "".join(f"<code>{piece}</code>" if place % 2 else piece for place, piece in enumerate(pieces))


def _win_rates(rounds: Sequence[Mapping[str, Any]]) -> str:
    """Win rates over the start model by round, with their intervals."""
    height, span = _HEIGHT - _BOTTOM, _WIDTH - _LEFT - 20

    def y(share: float) -> float:
        return 10 + (height - 20) * (1 - share)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="sans-serif" font-size="11">'
    ]
    for share in (0.0, 0.5, 1.0):
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{y(share):.1f}" y2="{y(share):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 4}" y="{y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>')
    for place, one in enumerate(rounds):
        x = _LEFT + span * (place + 0.5) / len(rounds)
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">round {one["number"]}</text>')
        wins = one["wins"][JUDGE][AGAINST_START]
        if not wins["interval"]:
            continue
        low, high = wins["interval"]
        ends = f'y1="{y(low):.1f}" y2="{y(high):.1f}"'
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" {ends} stroke="{_COLOUR}" stroke-width="2"/>'
            f'<circle cx="{x:.1f}" cy="{y(wins["rate"]):.1f}" r="4" fill="{_COLOUR}"/>'
        )
    return f"<h3>Win rate over the start model, held out, with 95 % intervals</h3>{''.join(parts)}</svg>"
