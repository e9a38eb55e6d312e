"""A campaign of faults: kill, fill, tear and race everything around a run, and check after each what must hold.

    python benchmarks/faults.py --out faults.jsonl                  the whole campaign; again, it goes on where it was
    python benchmarks/faults.py --out faults.jsonl --seconds 150    a part of it
    python benchmarks/faults.py --out faults.jsonl --table          the table of what there is
    python benchmarks/faults.py --out faults.jsonl --write-table benchmarks/results/faults.md
    python benchmarks/faults.py --only kill-worker/3                one fault again, with what was found
    python benchmarks/faults.py --short                             one of each cheap kind
    python benchmarks/faults.py --kinds                             all kinds

Results are JSON lines, one a fault: its name, what was violated, seconds. All that is random in a fault comes from the
seed and the fault's name. Most faults use a stand-in for the training with the whole product around it
(`fault_kinds/standin`); kinds that train for real follow one another in one run. Full disks and file systems that turn
read-only need root, Slurm its packages; without them those faults count as not injected.

Exit code: 0 where nothing was violated, 1 where something was.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.fault_kinds import campaign, page, plan, table
from benchmarks.fault_kinds.all_kinds import KINDS

SEED = 7


def main() -> int:
    """Do what the options say; the return value is the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file of the results; what it has is not done again")
    parser.add_argument("--work", type=Path, help="folder that keeps what is made once, such as the tiny model")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--jobs", type=int, default=2, help="faults at the same time")
    parser.add_argument("--seconds", type=float, help="begin no fault after so many seconds")
    parser.add_argument("--kind", action="append", default=[], help="only this kind; may be given several times")
    parser.add_argument("--times", type=int, help="how often each kind is injected")
    parser.add_argument("--only", action="append", default=[], metavar="KIND/NUMBER", help="only this fault")
    parser.add_argument("--again", action="store_true", help="repeat the faults of --out that were violated")
    parser.add_argument("--short", action="store_true", help="one of each cheap kind")
    parser.add_argument("--table", action="store_true", help="print the table of --out")
    parser.add_argument("--write-table", type=Path, metavar="PAGE", help="and the counts in docs/guarantees.md")
    parser.add_argument("--kinds", action="store_true", help="list the kinds")
    given = parser.parse_args()
    if given.kinds:
        for kind in KINDS.values():
            print(f"{kind.name:32} {kind.times:3}  {kind.what}")
        return 0
    if given.table:
        print(table.table(table.read_results(given.out)), end="")
        return 0
    if given.write_table:
        guarantees = Path(__file__).parents[1] / "docs" / "guarantees.md"
        page.write(table.read_results(given.out), given.write_table, guarantees)
        return 0
    earlier = table.read_results(given.out) if given.out else []
    if given.only:
        chosen = [plan.session_of(key, given.seed) for key in given.only]
    elif given.again:
        chosen = [plan.session_of(one["fault"], given.seed) for one in table.violated(earlier)]
    else:
        names = given.kind or ([kind.name for kind in KINDS.values() if kind.short] if given.short else [])
        sessions = plan.sessions(given.seed, names, 1 if given.short else given.times)
        done = {one["fault"] for one in earlier}
        chosen = [one for one in sessions if not done.issuperset(one.keys)]
    commit = _commit()
    until = time.monotonic() + given.seconds if given.seconds else None
    with tempfile.TemporaryDirectory(prefix="faults-") as own:
        work = given.work or Path(own)
        work.mkdir(parents=True, exist_ok=True)
        wrong = 0
        for one in campaign.run(chosen, given.seed, work.resolve(), jobs=given.jobs, until=until):
            if given.out:
                campaign.append(given.out, one | {"commit": commit, "day": time.strftime("%Y-%m-%d")})
            wrong += bool(one["violations"])
            skipped = f"not possible here: {one['skipped']}" if one["skipped"] else ""
            said = "; ".join(one["violations"]) or skipped or "held"
            print(f"{one['fault']:36} {one['seconds']:6.1f} s  {said}", flush=True)
            if given.only and one["notes"]:
                print("\n".join(f"    {note}" for note in one["notes"]))
    return 1 if wrong else 0


def _commit() -> str:
    """The commit that is tested; with a plus where files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=8", "--dirty=+"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    os.environ.pop("DPO_TUI_HOME", None)
    sys.exit(main())
