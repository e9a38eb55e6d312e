"""Many runs as one: sweeps, driven by one detached process a group."""
