"""The run folder: the paths of its files.

The folder is the only channel between the app, the command line, the supervisor and the worker; `docs/runs.md` is the
contract that other programs rely on. Standard library only.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """One run's folder; the properties name its files, which may not exist yet.

    Args:
        path: the folder itself, ``$DPO_TUI_HOME/runs/<id>``.
    """

    path: Path

    @property
    def id(self) -> str:
        """The run's id, ``YYYYMMDD-HHMMSS-xxxx``; ids sort in order of creation."""
        return self.path.name

    @property
    def config(self) -> Path:
        """The frozen, fully resolved config."""
        return self.path / "config.toml"

    @property
    def estimate(self) -> Path:
        """The memory estimate, written once when the run is created; may be missing."""
        return self.path / "estimate.json"

    @property
    def receipt(self) -> Path:
        """What was run: versions, GPU, driver, command line, dataset path and checksum."""
        return self.path / "receipt.json"

    @property
    def held_out(self) -> Path:
        """Which prompts were held out; see `dpo_tui.runs.held_out_record`. Runs of earlier versions have none."""
        return self.path / "held_out.json"

    @property
    def state(self) -> Path:
        """The run's state, written by the supervisor; see `dpo_tui.runs.state`."""
        return self.path / "state.json"

    @property
    def given_name(self) -> Path:
        """The name that a user has given the run later; see `dpo_tui.runs.naming`. May be missing."""
        return self.path / "name"

    @property
    def progress(self) -> Path:
        """Progress, written by the worker: phase, done, total, unit, step, max_steps, epoch, t."""
        return self.path / "progress.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a log event, append-only."""
        return self.path / "metrics.jsonl"

    @property
    def events(self) -> Path:
        """The worker's events: phases, warnings, checkpoints, advice. Append-only."""
        return self.path / "events.jsonl"

    @property
    def supervisor_log(self) -> Path:
        """The supervisor's events: starts, exits, out-of-memory retries, waiting. Append-only."""
        return self.path / "supervisor.jsonl"

    @property
    def supervisor_output(self) -> Path:
        """Standard output and error of the supervisor itself; empty unless something went wrong."""
        return self.path / "supervisor.log"

    @property
    def samples(self) -> Path:
        """Answers to the same fixed prompts, generated before, during and after. Append-only."""
        return self.path / "samples.jsonl"

    @property
    def train_log(self) -> Path:
        """Standard output and error of the worker."""
        return self.path / "train.log"

    @property
    def ranks(self) -> Path:
        """Reports of the ranks, and the output of all but rank 0; missing with one process."""
        return self.path / "ranks"

    def rank_report(self, rank: int) -> Path:
        """A rank's heartbeat, and how it ended; see `dpo_tui.runs.ranks`."""
        return self.ranks / f"{rank}.json"

    def rank_log(self, rank: int) -> Path:
        """Standard output and error of a rank; those of rank 0 are the worker's."""
        return self.ranks / f"{rank}.log" if rank else self.train_log

    @property
    def lock(self) -> Path:
        """Locked by the supervisor while it lives. Only `dpo_tui.runs.run_lock` may open it."""
        return self.path / "run.lock"

    @property
    def control(self) -> Path:
        """Request files (``stop``, ``stop-now``, ``checkpoint``): the only files that other programs write."""
        return self.path / "control"

    @property
    def job(self) -> Path:
        """The batch job that the run was submitted as; missing for a run of this machine."""
        return self.path / "job.json"

    @property
    def job_script(self) -> Path:
        """The script that was submitted."""
        return self.path / "job.sh"

    @property
    def job_status(self) -> Path:
        """What the batch system last said about the job: a cache, which any reader may renew."""
        return self.path / "job-status.json"

    @property
    def queue_place(self) -> Path:
        """Where in the queue the user has moved the run to; see `dpo_tui.runs.queue_place`. May be missing."""
        return self.path / "queue-place.json"

    @property
    def checkpoints(self) -> Path:
        """The trainer's ``checkpoint-N`` folders."""
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        """The trained adapter and its tokenizer."""
        return self.path / "adapter"

    @property
    def merged(self) -> Path:
        """The model with the adapter merged in, if that was requested."""
        return self.path / "merged"

    @property
    def has_result(self) -> bool:
        """Whether the run has an adapter or a model that can be used."""
        return self.adapter.is_dir() or self.merged.is_dir()

    @property
    def model_card(self) -> Path:
        """The model card."""
        return self.path / "README.md"
