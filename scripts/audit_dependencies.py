"""Known vulnerabilities of the tested versions (constraints.txt), asked of PyPI by pip-audit. Needs the network.

    python scripts/audit_dependencies.py        `make audit` installs pip-audit first

Exit code: 0 where every package was looked up and none is known to be vulnerable, 1 where one is, 2 where that is not
known. A package that PyPI did not answer for counts as unknown: pip-audit alone ends with 0 without any network.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
_NAMED = 8


def main() -> int:
    """Ask, and say what was found; the return value is the exit code."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(CONSTRAINTS), "--no-deps", "--disable-pip", "--format=json"]
    done = subprocess.run([*command, "--progress-spinner=off"], capture_output=True, text=True, check=False)
    try:
        document = json.loads(done.stdout)
    except ValueError:
        document = {}
    code, message = verdict(document)
    print(message)
    if code == 2 and done.stderr.strip():
        print(done.stderr.strip().splitlines()[-1], file=sys.stderr)
    return code


def verdict(document: dict[str, Any]) -> tuple[int, str]:
    """Judge what pip-audit has found.

    Args:
        document: its JSON; empty where it gave none.

    Returns:
        The exit code and what is said.
    """
    packages = document.get("dependencies", [])
    unknown = [one["name"] for one in packages if "skip_reason" in one]
    vulnerable = [
        f"{one['name']} {one['version']}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'no version'}"
        for one in packages
        for found in one.get("vulns", [])
    ]
    if vulnerable:
        return 1, "\n".join(["Known vulnerabilities:", *vulnerable])
    if not packages or len(unknown) == len(packages):
        return 2, "Nothing was audited: PyPI cannot be reached from here. Run this where there is a network."
    if unknown:
        more = ", …" if len(unknown) > _NAMED else ""
        named = ", ".join(unknown[:_NAMED])
        return 2, f"{len(unknown)} of {len(packages)} packages could not be audited: {named}{more}"
    return 0, f"{len(packages)} packages, no known vulnerability."


if __name__ == "__main__":
    sys.exit(main())
