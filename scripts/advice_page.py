"""Generator of docs/advice.md: `python scripts/advice_page.py > docs/advice.md`.

Thresholds come from the rules' own constants, and the share of right diagnoses is counted on the labelled runs of
tests/advice_runs. A test compares the page with the output of this script.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from dpo_tui.advice import config_rules as settings  # noqa: E402
from dpo_tui.advice import optimisation_rules as curve  # noqa: E402
from dpo_tui.advice import preference_learning_rules as preference  # noqa: E402
from dpo_tui.advice import receipt_rules as receipt  # noqa: E402
from dpo_tui.advice.advice import HEALTHY  # noqa: E402
from dpo_tui.advice.diagnose import apply_rules, diagnose  # noqa: E402
from dpo_tui.advice.evidence import read_evidence  # noqa: E402
from dpo_tui.strategies import metric_expectations  # noqa: E402
from dpo_tui.strategies.dpo import DPO  # noqa: E402
from dpo_tui.text.numbers import plain_number  # noqa: E402

RUNS = ROOT / "tests" / "advice_runs"
_OURS = "ours"


@dataclass(frozen=True)
class Entry:
    """One row of the page's tables.

    Attributes:
        rule: the function.
        name: `Advice.rule`.
        condition: which metrics it reads, and the threshold from which on it applies.
        source: of the threshold.
        remedy: the settings that it changes, or what the user has to do.
    """

    rule: Callable[[Any], Any]
    name: str
    condition: str
    source: str
    remedy: str


_LOW, _HIGH, _LORA = DPO.learning_rates.low, DPO.learning_rates.high, DPO.learning_rates.lora
_BETA_LOW, _BETA_HIGH = DPO.betas

ON_RUNS: tuple[Entry, ...] = (
    Entry(
        curve.not_a_number,
        "nan",
        "the newest `loss` or `grad_norm` is NaN or infinite",
        "nothing after it means anything",
        "a tenth of the `learning_rate`",
    ),
    Entry(
        preference.wrong_reference,
        "wrong-reference",
        "rewards or margins at step 0 or 1: policy and reference differ before the first update by more than "
        f"{preference.REFERENCE_GAP:g} nat ({preference.REFERENCE_GAP_WITH_DROPOUT:g} with dropout)",
        "they start as one model, so the loss starts at ln 2 = 0.6931",
        'merge stage one first (`model_name = "previous"` does)',
    ),
    Entry(
        receipt.leak,
        "leak",
        f"{receipt.LEAKED_SHARE:.0%} or more of the held-out prompts are trained on, as the worker counted",
        _OURS,
        "no `eval_dataset`: `eval_split` keeps prompts apart",
    ),
    Entry(
        receipt.duplicates,
        "duplicates",
        f"{receipt.DUPLICATE_SHARE:.0%} or more of the training pairs are copies, as the worker counted",
        _OURS,
        "`dpo-tui inspect DATA --write OUT --drop duplicate-pair`",
    ),
    Entry(
        curve.beta,
        "beta",
        f"`beta` below {_BETA_LOW:g} while the pairs move by {curve.MOVED_NATS:g} nats and the loss stays within "
        f"{4 * curve.FLAT_LOSS_NATS:g} of 0.693; or above {_BETA_HIGH:g} while the loss swings by 0.69, or is above "
        f"it, or the pairs move by less than {curve.STILL_NATS:g} nats",
        "TRL's default 0.1; 2.0 is called strong",
        "`beta` 0.1",
    ),
    Entry(
        preference.swapped,
        "swapped",
        "held-out accuracy below one half by more than two standard errors of chance, its margin negative, and "
        "training accuracy above one half",
        "two standard errors",
        "look at the pairs: chosen and rejected changed places in one of the two",
    ),
    Entry(
        curve.rate_high,
        "rate-high",
        f"mean loss of the last third above {curve.HARMFUL_LOSS:g}",
        "chance is 0.693; ours beyond that",
        f"a tenth of the `learning_rate`, not below {plain_number(_LOW)}; `warmup_ratio` 0.1",
    ),
    Entry(
        preference.trivial,
        "trivial",
        f"accuracy {preference.PERFECT_ACCURACY:g} within {preference.EARLY_STEPS} steps over "
        f"{preference.MIN_PAIRS_SEEN} pairs or more, and a "
        "loss below half of 0.693",
        "practice: 1.0 within 20 steps means leaked or trivial pairs",
        "look at the pairs: the rejected answers give themselves away",
    ),
    Entry(
        curve.too_short,
        "too-short",
        f"fewer than {curve.FEW_STEPS} steps in all, and a loss still above {curve.LEARNT_LOSS_SHARE:.0%} of 0.693",
        "500 pairs are 63 steps an epoch",
        "no `max_steps`, `num_train_epochs` 3 or more",
    ),
    Entry(
        preference.weak_signal,
        "weak-signal",
        f"accuracy below {preference.WEAK_ACCURACY:.0%} in the second half though pairs moved by "
        f"{preference.MOVED_NATS:g} nats ({preference.MOVED_NATS_AT_USUAL_RATE:g} at a rate of {plain_number(_LORA)} "
        "or more)",
        _OURS,
        "clearer and more diverse pairs, 500 and more",
    ),
    Entry(
        curve.rate_low,
        "rate-low",
        f"mean loss of the last third within {curve.FLAT_LOSS_NATS:g} of 0.6931 after {curve.SETTLED_STEPS} steps, "
        f"and pairs moved by less than {curve.STILL_NATS:g} nats ({curve.STILL_NATS_EARLY:g} in the first half)",
        f"{curve.FLAT_LOSS_NATS:g} is a tenth of a nat at β 0.1",
        f"ten times the `learning_rate`, at least {plain_number(_LORA)} with LoRA (TRL's advice)",
    ),
    Entry(
        preference.over_fitting,
        "over-fitting",
        f"held-out loss {preference.EVAL_LOSS_RISE:g} above its best, {preference.GENERALISATION_GAP:g} above "
        f"training; or training loss below {preference.MEMORISED_LOSS_SHARE:.0%} of it with "
        f"{preference.GENERALISATION_GAP:.0%} more pairs right",
        _OURS,
        "`num_train_epochs` 2; more and more diverse pairs",
    ),
    Entry(
        preference.chosen_falls,
        "chosen-falls",
        f"chosen answers below the reference by {preference.CHOSEN_LOSS_NATS:g} nats and "
        f"{preference.CHOSEN_LOSS_SHARE:.0%} of theirs, and still falling; or by all of theirs",
        "both rewards falling is common, a chosen one that keeps falling is harm; numbers ours",
        '`loss_type` ["sigmoid", "sft"], weights 1 and 0.2',
    ),
    Entry(
        preference.kl,
        "kl",
        f"the newest KL estimate less its standard error is above {metric_expectations.KL_REASONABLE:g} nats an answer",
        "TRL's guidance for PPO",
        "twice the `beta`, at most 1",
    ),
    Entry(
        receipt.out_of_memory,
        "out-of-memory",
        "the supervisor had to start again with a smaller micro-batch",
        "the event itself",
        "`use_4bit`; else half the micro-batch with twice the accumulation; else half the `max_seq_length`",
    ),
    Entry(
        receipt.gradient_spikes,
        "spikes",
        f"`grad_norm` above {metric_expectations.SPIKE:g} and {metric_expectations.SPIKE:g} times the median of the "
        f"{metric_expectations.SPIKE_PREDECESSORS} before",
        "practice: 0.01 to 10 is usual; the factor is ours",
        "`warmup_ratio` 0.2; look at the pairs of that batch",
    ),
    Entry(
        receipt.dropped_rows,
        "dropped-rows",
        f"{receipt.DROPPED_SHARE:.0%} or more of the pairs were dropped because the prompt alone fills "
        "`max_seq_length`",
        _OURS,
        "twice the `max_seq_length`",
    ),
    Entry(
        receipt.data_bound,
        "data-bound",
        f"the device waits for batches {receipt.DATA_WAIT_SHARE:.0%} of the time or more, in the second half",
        _OURS,
        "twice the `dataloader_num_workers`, at least 2",
    ),
)

ON_SETTINGS: tuple[Entry, ...] = (
    Entry(
        settings.learning_rate,
        "learning-rate",
        f"`learning_rate` outside {plain_number(_LOW)} to {plain_number(_HIGH)}, or to {plain_number(_LORA)} with "
        f"LoRA; with LoRA a note below {plain_number(_HIGH)}",
        "DPO's usual range; TRL's advice for LoRA",
        f"the nearest end of the range; of the note, {plain_number(_LORA)}",
    ),
    Entry(
        settings.beta,
        "beta",
        f"`beta` outside {_BETA_LOW:g} to {_BETA_HIGH:g}",
        "2.0 is called strong",
        "`beta` 0.1",
    ),
    Entry(settings.alpha, "alpha", "`lora_alpha` is not twice `lora_r`", "custom", "twice the rank"),
    Entry(
        settings.dropout,
        "dropout",
        f"`lora_dropout` above {settings.HIGH_DROPOUT:g}",
        "keep it low",
        "`lora_dropout` 0.05",
    ),
    Entry(
        settings.epochs,
        "epochs",
        f"`num_train_epochs` above {settings.MOST_EPOCHS}",
        "2 to 4 are safe",
        "`num_train_epochs` 3",
    ),
)

_HEAD = """\
# Advice: how a run is going, in words

<!-- Generated by `python scripts/advice_page.py`; change the rules, not this page. -->

Rules read a run's metrics, settings, receipt and events. The first that applies is the diagnosis; the others are mostly
its consequences. When none applies the run is *healthy*, with the figures that say so, or it is *too early to tell*.

    dpo-tui status RUN             the diagnosis, and the settings that would mend it
    dpo-tui status RUN --json      the same under `advice`: rule, severity, message, remedy, evidence
    dpo-tui config fix RUN         a new config with the remedy worked in; prints its name

In the monitor the advice is shown above the charts, and `a` opens the same change in the form. No setting is changed
without you. Rules on losses around 0.6931 apply to DPO's own loss (`sigmoid`) only.

*Nats* are of whole answers: a reward divided by β is log π − log π_ref. Thresholds named *ours* were set by looking at
runs made on purpose, of a toy model; treat them as a smoke alarm, not as a measurement.

## Rules on a run, in their order
"""
_TABLE = "| rule | applies when | source | remedy |\n|---|---|---|---|"


def page() -> str:
    """Return the page's Markdown."""
    return "\n".join(
        [
            f"{_HEAD}\n{_TABLE}",
            *map(_row, ON_RUNS),
            "\n## Rules on settings, before a run\n\n`dpo-tui config check FILE` and `train` print them.\n",
            _TABLE,
            *map(_row, ON_SETTINGS),
            _measured(),
        ]
    )


def _row(entry: Entry) -> str:
    return f"| `{entry.name}` | {entry.condition} | {entry.source} | {entry.remedy} |"


def _measured() -> str:
    """The page's section on how often the rules are right on the labelled runs."""
    labels = {path.parent: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RUNS.glob("*/label.json"))}
    advice_on = {run: diagnose(run) for run in labels}
    right = [run for run, label in labels.items() if advice_on[run][0].rule in label["right"]]
    healthy = [run for run, label in labels.items() if label["right"] == [HEALTHY]]
    false_alarms = [run for run in healthy if any(advice.is_problem for advice in advice_on[run])]
    moments = [(run, tenth) for run in healthy for tenth in range(1, 10)]
    live = [moment for moment in moments if _has_alarm_at(*moment)]
    run_counts = Counter(label["right"][0] for label in labels.values())
    hits = Counter(labels[run]["right"][0] for run in right)
    rows = [f"| `{name}` | {count} | {hits[name]} |" for name, count in sorted(run_counts.items())]
    unseen = [entry.name for entry in ON_RUNS if entry.name not in run_counts]
    return f"""
## How often they are right

`tests/advice_runs` holds {len(labels)} runs of real DPO on the shipped toy model, {len(healthy)} that are healthy and
{len(labels) - len(healthy)} with one fault made on purpose (`scripts/advice_recipes.py` says which,
`scripts/make_advice_runs.py` trains them again, about half a minute of one core each).

- Right first diagnosis: **{len(right)} of {len(labels)}** (at least nine in ten is held by a test).
- Healthy runs on which a rule applies: **{len(false_alarms)} of {len(healthy)}** (at most 5 %); judged nine
  times on their way, **{len(live)} of {len(moments)}** times.

| fault | runs | right first |
|---|---|---|
{chr(10).join(rows)}

Those runs are of seed 2 and were looked at. Of seed 3, 28 of the recipes were trained afterwards, with no rule changed
since: right first 28 of 28, no rule applied to the 9 healthy ones, nor at 81 moments on their way. They are not in
the tree; `--seed 3` makes them again.

What this does not say: all of it is one model of 2.5 million parameters on one kind of text, and the rules were written
by people who knew the recipes. `wrong-reference` was mended after it had missed its run here. No labelled run is there
for {", ".join(f"`{name}`" for name in unseen)}: unit tests hold those.
"""


def _has_alarm_at(run: Path, tenth: int) -> bool:
    """Whether the rules find a problem in the first ``tenth`` tenths of a run."""
    whole = read_evidence(run)
    seen = [line for line in whole.metrics if line["step"] <= round(whole.step * tenth / 10)]
    return apply_rules(replace(whole, metrics=seen, over=False))[0].is_problem


if __name__ == "__main__":
    sys.stdout.write(page())
