"""The forecast for a planned run: memory, steps, duration and padding, recomputed as settings change."""

from dataclasses import dataclass, field, replace

from dpo_tui.advice.config_rules import Advice, advise
from dpo_tui.config.schema import Config
from dpo_tui.data.pair_sizes import PairSizes, pair_sizes
from dpo_tui.data.source.locate import is_pattern
from dpo_tui.demo import assets
from dpo_tui.errors import DpoTuiError
from dpo_tui.hardware.duration import Duration, Steps, duration_of, steps_of
from dpo_tui.hardware.memory.fit import FitChange, Verdict, changes_to_fit, verdict_of
from dpo_tui.hardware.memory.memory_estimate import MemoryEstimate, estimate
from dpo_tui.hardware.models.lookup import architecture_of
from dpo_tui.hardware.profiles import Profile
from dpo_tui.hardware.run_history import measurements
from dpo_tui.hub.cache import local_model_folder
from dpo_tui.paths import expanded
from dpo_tui.start.earlier_run_model import is_earlier_run, shape_of
from dpo_tui.views.padding_savings import PaddingSavings, estimate_padding
from dpo_tui.views.run_plan import RunPlan


@dataclass(frozen=True)
class Forecast:
    """The forecast for a plan; None for what is not known.

    Attributes:
        memory: estimate by part, in bytes.
        free: free bytes of the device.
        verdict: fits, tight, does-not-fit or unknown.
        changes: changes of settings that would make it fit.
        steps: optimizer steps and tokens.
        duration: seconds with a range and a basis.
        sizes: number and lengths of the pairs.
        padding: share of padding in the batches, shuffled and with `group_by_length`.
        advice: findings of the rules for configs.
        unknown: why the memory was not estimated.
    """

    memory: MemoryEstimate | None = None
    free: int | None = None
    verdict: Verdict = "unknown"
    changes: tuple[FitChange, ...] = ()
    steps: Steps | None = None
    duration: Duration | None = None
    sizes: PairSizes = field(default_factory=PairSizes)
    padding: PaddingSavings | None = None
    advice: tuple[Advice, ...] = ()
    unknown: str = ""


class Forecaster:
    """Makes forecasts; caches the sizes of the pairs, which most changes of settings do not affect.

    Args:
        profile: the hardware profile of this machine, with its free memory.
        device_name: name of the GPU, for the duration.
    """

    def __init__(self, profile: Profile, device_name: str = "") -> None:
        self.profile = profile
        self.device_name = device_name
        self._sizes: dict[tuple[object, ...], PairSizes] = {}

    def forecast(self, plan: RunPlan) -> Forecast:
        """Forecast a plan. May read the data: call it from a thread. A bad model or dataset is reported, not raised."""
        config, profile = _with_known_model(plan.config), self.profile
        # The shipped toy learns at a rate that no other model bears: a warning would send first-timers to change it.
        toy = config.model_name == str(assets.model_dir())
        advice = tuple(found for found in advise(config) if not (toy and found.rule == "learning-rate"))
        sizes = self._pair_sizes(config, plan) if plan.has_data else PairSizes()
        steps = steps_of(config, sizes.trained, sizes.tokens_per_pair)
        micro = config.per_device_train_batch_size
        padding = estimate_padding(sizes.sequences, sizes.rows or 0, micro, config.effective_batch // micro)
        known = Forecast(steps=steps, sizes=sizes, padding=padding, advice=advice)
        if not plan.has_model:
            return replace(known, unknown="no model chosen yet")
        try:
            arch = architecture_of(config.model_name, config.model_revision)
        except DpoTuiError as error:
            return replace(known, unknown=error.message)
        memory = estimate(config, arch, device=profile.device, longest=sizes.longest)
        verdict = verdict_of(memory.total, profile.free)
        changes: tuple[FitChange, ...] = ()
        if verdict == "does-not-fit" and profile.free is not None:
            found = changes_to_fit(config, arch, profile.free, device=profile.device, longest=sizes.longest)
            changes = tuple(found)
        duration = duration_of(
            config,
            arch,
            steps.tokens if steps else None,
            self.device_name or profile.device,
            measurements(),
        )
        return replace(known, memory=memory, free=profile.free, verdict=verdict, changes=changes, duration=duration)

    def _pair_sizes(self, config: Config, plan: RunPlan) -> PairSizes:
        data = (config.datasets, tuple(config.dataset_weights or ()), config.encoding, config.max_samples)
        held_out = (config.has_evaluation_data, config.eval_split, config.seed)
        template = (config.chat_template, repr(config.chat_template_kwargs), config.eos_token)
        key = (*data, *held_out, config.model_name, *template, config.max_seq_length, config.strategy)
        found = self._sizes.get(key)
        if found is None:
            local = tuple(map(_absolute, config.datasets))
            config = config.model_copy(update={"dataset": local if len(local) > 1 else local[0]})
            folder = local_model_folder(config.model_name, config.model_revision) if plan.has_model else None
            found = self._sizes[key] = pair_sizes(config, folder)
        return found


def _absolute(location: str) -> str:
    """A dataset on this machine by its absolute path; another one as it is named."""
    path = expanded(location).absolute()
    return str(path) if path.exists() or is_pattern(location) else location


def _with_known_model(config: Config) -> Config:
    """The config with the base model of the run in place of ``run:ID``, which has the same architecture."""
    if not is_earlier_run(config.model_name):
        return config
    try:
        model, revision = shape_of(config.model_name)
    except DpoTuiError:
        return config  # the start of the run reports it
    return config.model_copy(update={"model_name": model, "model_revision": revision})
