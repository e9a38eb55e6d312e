"""GPUs of the machine, the choice of one, profiles, estimates of memory and time, and the doctor."""
