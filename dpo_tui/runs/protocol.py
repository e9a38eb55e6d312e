"""What a run's launcher, supervisor and worker agree on: exit codes and the words in the worker's environment."""

DONE = 0
FAILED = 1
OUT_OF_MEMORY = 75  # EX_TEMPFAIL of sysexits.h: trying again, smaller, may work.
STOPPED = 130  # 128 + SIGINT, as shells report a stop by the user.
"""The worker's exit codes; every other one means that it failed."""

ARGV_VARIABLE = "DPO_TUI_ARGV"
"""The command line that started the run, as JSON, for the worker's receipt."""
