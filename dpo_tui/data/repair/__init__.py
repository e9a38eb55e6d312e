"""Write a repaired copy of a dataset."""
