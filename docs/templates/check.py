"""Template of a data check: put the function into a module of dpo_tui/data/checks/.

Registering is the decorator. Give it the next free bit: flags of rows are stored, so a bit is never changed or reused.
The row of the test is in tests/data/checks/test_checks.py, the sentence for users in docs/data.md.
"""

from collections.abc import Iterable

from dpo_tui.data.checks.pair_columns import PairColumns
from dpo_tui.data.checks.registry import pair_check


@pair_check(
    "shouting",
    "info",
    bit=26,
    title="the chosen answer is in capitals",
    explanation="The model learns to answer in capitals.",
    remedy="Keep it if that is meant; else rewrite or drop the pairs.",
)
def shouting(columns: PairColumns) -> Iterable[int]:
    """A chosen answer of more than three letters, none of them small."""
    return [index for index, text in enumerate(columns.chosens) if len(text) > 3 and text.isupper()]  # noqa: PLR2004
