"""Faults made on purpose, and what the package makes of them: `python -m tests.faults [SECTION ...]`."""
