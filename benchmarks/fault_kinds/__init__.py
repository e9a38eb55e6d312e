"""The parts of `benchmarks/faults.py`: the stage of a fault, its checkers, and the kinds of faults."""
