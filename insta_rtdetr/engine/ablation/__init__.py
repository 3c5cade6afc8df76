"""Trainings that differ in a few config keys: run from a list, and put side by side."""
