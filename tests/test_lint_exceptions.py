"""Every exception from a rule about security has its reason beside it, and the rules are on."""

import re
import tomllib

from tests.support.repository import ROOT

EXCEPTION = re.compile(r"#\s*noqa: ((?:[A-Z]+\d+)(?:, ?[A-Z]+\d+)*)(.*)$")
CHECKED = [*sorted((ROOT / "dpo_tui").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]


def without_reason(text: str) -> list[int]:
    """The lines, from 1, that leave a rule about security out and do not say why."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        exception = EXCEPTION.search(line)
        if exception is not None and re.search(r"\bS\d", exception[1]) and len(exception[2].strip(" -()")) < 5:
            found.append(number)
    return found


def test_every_exception_says_why() -> None:
    assert {
        str(path.relative_to(ROOT)): found
        for path in CHECKED
        if (found := without_reason(path.read_text(encoding="utf-8")))
    } == {}


def test_an_exception_without_a_reason_is_found() -> None:
    lines = ["x()  # noqa: " + "S101", "x()  # noqa: " + "S603 - a list", "y()  # noqa: " + "E501", "y()"]
    assert without_reason("\n".join(lines)) == [1]


def test_the_rules_are_on() -> None:
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert not any(rule.startswith("S") and rule != "S603" for rule in lint["ignore"] if re.match(r"S\d", rule))
    assert not any(rule.startswith("S6") for rule in lint["per-file-ignores"].get("dpo_tui/**", []))
