"""The description of a training strategy: everything outside ``train/`` that depends on which one a run uses.

Adding a strategy takes three places and changes nothing that exists:

1. a module here with one :class:`Strategy`, such as ``orpo.py`` (its metrics come from ``metric_expectations.py``);
2. a row in ``registry.STRATEGIES``: the config accepts the name from then on;
3. a row in ``train/trainer/trainer_registry.py`` with TRL's trainer class and the function that makes its arguments.

Settings that only the new strategy has are declared in ``config/sections/``. A new :class:`DataForm` also needs a
reader in ``data/`` and a branch wherever the rows of a config are loaded: there the form is compared, never the name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from dpo_tui.strategies.metric_expectations import PREFERENCE_ACCURACY, PREFERENCE_MARGIN, Metric

Settings = Mapping[str, Any]
"""The settings of a run by name; one that is missing has TRL's default."""


class DataForm(Enum):
    """The internal form of the rows that a strategy reads; the value is the plural noun that users see."""

    PAIRS = "pairs"
    DEMONSTRATIONS = "demonstrations"
    LABELLED = "labelled answers"


@dataclass(frozen=True)
class LearningRates:
    """The usual learning rates.

    Attributes:
        low: lowest usual one.
        high: highest usual one of full fine-tuning.
        lora: advised when an adapter is trained.
    """

    low: float
    high: float
    lora: float


@dataclass(frozen=True)
class Betas:
    """The sensible values of β, which differ in kind between losses of whole answers and of mean tokens.

    Attributes:
        low: below it the reference hardly holds the policy, or the loss hardly changes.
        high: above it the policy hardly moves.
        usual: advised instead of a value outside.
        advice: the usual values in words.
        too_low: what a value below does, as a verb phrase.
        too_high: what a value above does.
    """

    low: float
    high: float
    usual: float
    advice: str
    too_low: str = "hardly holds the policy to the reference"
    too_high: str = "hardly lets the policy move"


@dataclass(frozen=True)
class LossScale:
    """Start and scale of a run's loss.

    Attributes:
        start: expected loss before the first update; None where a part of it depends on the model or the data.
        floor: the lowest value that the parts with a known start can reach.
        unit: start − floor of those parts, as a multiple of that of −log σ (ln 2). Thresholds that were found with
            ``sigmoid`` are multiplied by it.
    """

    start: float | None
    floor: float
    unit: float


def _no_loss_scale(settings: Settings) -> LossScale | None:
    return None


def _no_betas(settings: Settings) -> Betas | None:
    return None


def _no_loss_summary(settings: Settings) -> str:
    return ""


def _never(settings: Settings) -> bool:
    return False


def disables_dropout(settings: Settings) -> bool:
    """Whether TRL's ``disable_dropout`` is on, as it is by default, for strategies whose trainer has it."""
    return bool(settings.get("disable_dropout", True))


def has_other_reference(settings: Settings) -> bool:
    """Whether a run's reference is another model than the one that training starts from."""
    return bool(settings.get("ref_model") or settings.get("ref_adapter"))


def _no_refusal(settings: Settings) -> tuple[str, str] | None:
    return None


@dataclass(frozen=True)
class Strategy:
    """What distinguishes one training strategy from the others.

    Attributes:
        name: value of the setting ``strategy``.
        title: short name for screens.
        method: full name for the model card.
        summary: continues the sentence "NAME …" in the help of the setting.
        data: form of the rows it reads.
        sequences_per_example: how many sequences one example puts through the model.
        metrics: logged by its trainer, the most informative first.
        trl_arguments: name of TRL's class of arguments, whose fields the table [trl] of a config may set.
        trl_location: where the trainer is in TRL's package, where a version of TRL may lack it; empty otherwise.
        settings: the settings of losses, references and labels that its trainer reads. Those of other strategies are
            refused; None where nothing is known about them, and none is.
        defaults: defaults of settings that differ from the schema's.
        refusal: a setting whose value it cannot train with, and why; None where there is none.
        smoothed_losses: the losses whose formula has ``label_smoothing``; None for those of DPOTrainer.
        providers: the providers under which it trains; None for all.
        enough_examples: number of training examples from which a result can be expected; None where no rule is known.
        has_reference: whether the loss compares the policy with a frozen reference. KL is estimated against it.
        reference_scored_once: whether TRL can score the reference before the training (``precompute_ref_log_probs``).
        loss_scale: where its loss starts and how far it can fall; None where that is unknown.
        loss_summary: the loss and its settings in a few words, for the model card; empty where it has none.
        learning_rates: usual ones; None where no advice can be given.
        betas: sensible values of β; None where the loss has no β that weighs the reference.
        compares_means: whether its loss compares means per token, while the logged accuracy compares whole answers.
        lowers_chosen: whether its loss makes the chosen answers less likely on purpose.
        memory_7b_gb: expected memory for a 7B model in 4-bit with LoRA, from and to, in decimal gigabytes.
        smallest_micro_batch: fewest examples that the loss can be computed on at once.
        disables_dropout: whether its trainer sets the rate of every dropout to 0, the adapter's included.
        micro_batch_changes_loss: whether the loss of an example depends on the others of its micro-batch, so that a
            smaller one with more accumulation is not the same training.
        kl_sequences_per_example: sequences of an example that pass the policy, and the reference, without gradients
            besides: those of a KL term that the loss contains.
        keeps_data_order: whether its trainer needs the rows in one order in all epochs, so that batches cannot be
            grouped by length.
        several_processes: whether a test holds several processes that train it together to the losses of one. Some
            losses of TRL average over the rows of all processes, so that another number of them is another training.
    """

    name: str
    title: str
    method: str
    summary: str
    data: DataForm
    sequences_per_example: int
    metrics: tuple[Metric, ...]
    trl_arguments: str = "DPOConfig"
    trl_location: str = ""
    settings: frozenset[str] | None = None
    defaults: Settings = field(default_factory=dict)
    refusal: Callable[[Settings], tuple[str, str] | None] = _no_refusal
    smoothed_losses: frozenset[str] | None = None
    providers: frozenset[str] | None = None
    enough_examples: int | None = None
    has_reference: bool = False
    reference_scored_once: bool = False
    loss_scale: Callable[[Settings], LossScale | None] = _no_loss_scale
    loss_summary: Callable[[Settings], str] = _no_loss_summary
    learning_rates: LearningRates | None = None
    betas: Callable[[Settings], Betas | None] = _no_betas
    compares_means: Callable[[Settings], bool] = _never
    lowers_chosen: Callable[[Settings], bool] = _never
    memory_7b_gb: tuple[float, float] | None = None
    smallest_micro_batch: int = 1
    disables_dropout: Callable[[Settings], bool] = _never
    micro_batch_changes_loss: Callable[[Settings], bool] = _never
    kl_sequences_per_example: int = 0
    keeps_data_order: bool = False
    several_processes: bool = False

    def reads(self, setting: str) -> bool:
        """Whether its trainer reads a setting that not all strategies have."""
        return self.settings is None or setting in self.settings

    def start_loss(self, settings: Settings) -> float | None:
        """Return the expected loss before the first update; None where that is unknown."""
        scale = self.loss_scale(settings)
        return scale.start if scale else None

    def scores_reference_in_steps(self, precompute_ref_log_probs: str) -> bool:
        """Whether every training step has a forward pass of the reference.

        Args:
            precompute_ref_log_probs: the setting; "auto" counts as off, the more expensive case.
        """
        return self.has_reference and not (self.reference_scored_once and precompute_ref_log_probs == "on")

    def allowed_batch(self, settings: Settings) -> dict[str, int]:
        """Return the batch of a hardware profile with a micro-batch that is allowed, and the same effective batch.

        Args:
            settings: of the profile.

        Returns:
            The two settings that change; none where the profile's micro-batch is large enough, or not set.
        """
        names = ("per_device_train_batch_size", "gradient_accumulation_steps")
        micro, accumulation = (settings.get(name) for name in names)
        if micro is None or accumulation is None or micro >= self.smallest_micro_batch:
            return {}
        changed = self.smallest_micro_batch, max(1, micro * accumulation // self.smallest_micro_batch)
        return dict(zip(names, changed, strict=True))

    @property
    def judged_metrics(self) -> tuple[Metric, ...]:
        """The metrics of which one direction is better."""
        return tuple(metric for metric in self.metrics if metric.better is not None)

    def metric_labelled(self, label: str) -> Metric | None:
        """Return the metric with this label, of which one direction is better; None where its trainer logs none."""
        return next((metric for metric in self.judged_metrics if metric.label == label), None)

    @property
    def has_preference_accuracy(self) -> bool:
        """Whether its trainer logs how often the chosen answer wins."""
        return PREFERENCE_ACCURACY in {metric.name for metric in self.metrics}

    @property
    def tells_answers_apart(self) -> bool:
        """Whether its trainer logs by how much good answers win over bad ones: the margin, whether or not how often."""
        return PREFERENCE_MARGIN in {metric.name for metric in self.metrics}

    @property
    def memory_7b_range(self) -> str:
        """The expected memory for a 7B model in 4-bit, as "8–10 GB"; empty where it is unknown."""
        if self.memory_7b_gb is None:
            return ""
        low, high = self.memory_7b_gb
        return f"{low:.0f}–{high:.0f} GB"
