"""`make audit`: what is not known is not called safe."""

from typing import Any

import pytest

from scripts.audit_dependencies import CONSTRAINTS, verdict

FINE = {"name": "click", "version": "8.5.1", "vulns": []}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI and could not be audited: torch (2.13.0)"}
VULNERABLE = {"name": "jinja2", "version": "3.1.0", "vulns": [{"id": "GHSA-x", "fix_versions": ["3.1.5"]}]}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([FINE], 0, "1 packages, no known vulnerability"),
        ([FINE, VULNERABLE, UNKNOWN], 1, "jinja2 3.1.0: GHSA-x, mended in 3.1.5"),
        ([FINE, UNKNOWN], 2, "1 of 2 packages could not be audited: torch"),
        ([UNKNOWN], 2, "PyPI cannot be reached"),
        ([], 2, "PyPI cannot be reached"),
    ],
)
def test_the_verdict(packages: list[dict[str, Any]], code: int, said: str) -> None:
    found, message = verdict({"dependencies": packages})
    assert (found, said in message) == (code, True)


def test_what_is_audited_is_the_tested_set() -> None:
    assert CONSTRAINTS.is_file()
    assert verdict({})[0] == 2, "no answer at all"
