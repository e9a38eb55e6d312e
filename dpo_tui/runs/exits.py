"""The exit codes with which a worker tells its supervisor how it ended. Any other code is a failure."""

DONE = 0
OUT_OF_MEMORY = 75  # EX_TEMPFAIL of sysexits.h: trying again, smaller, may work.
STOPPED = 130  # 128 + SIGINT, as shells report a stop by the user.
FAILED = 1
