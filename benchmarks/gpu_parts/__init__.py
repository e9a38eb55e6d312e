"""The parts of benchmarks/gpu.py; registry.py lists them."""
