"""What the machine has: GPUs, profiles, the memory estimate, the doctor."""
