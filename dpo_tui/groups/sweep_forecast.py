"""How long a run of a sweep takes, as `dpo-tui estimate` says it of one run."""

from dpo_tui.config.schema import Config
from dpo_tui.data.pair_sizes import PairSizes, pair_sizes
from dpo_tui.errors import DpoTuiError
from dpo_tui.hardware import nvml
from dpo_tui.hardware.duration import duration_of, steps_of
from dpo_tui.hardware.models.lookup import architecture_of
from dpo_tui.hardware.run_history import measurements
from dpo_tui.hub.cache import local_model_folder
from dpo_tui.start.checked_rows import reading_key


class SweepForecast:
    """Estimates durations; measures each data once."""

    def __init__(self) -> None:
        self._sizes: dict[str, PairSizes] = {}
        self._earlier = measurements()
        gpus = nvml.read().gpus
        self._gpu = gpus[0].name if gpus else ""

    def seconds(self, config: Config) -> float | None:
        """Seconds that a run takes; None where its steps or its model's size are not known.

        Args:
            config: resolved, with absolute paths.
        """
        key = reading_key(config)
        if key not in self._sizes:
            self._sizes[key] = pair_sizes(config, local_model_folder(config.model_name, config.model_revision))
        sizes = self._sizes[key]
        steps = steps_of(config, sizes.trained, sizes.tokens_per_pair)
        try:
            architecture = architecture_of(config.model_name, config.model_revision)
        except DpoTuiError:
            return None
        device = self._gpu if config.gpus != "none" and self._gpu else "cpu"
        found = duration_of(config, architecture, steps.tokens if steps else None, device, self._earlier)
        return found.seconds if found else None
