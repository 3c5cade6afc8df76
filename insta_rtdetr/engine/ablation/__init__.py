"""Ablations: trainings that differ in a few config keys, which are run from a list and compared."""
