"""The commands and programs of the documentation are run."""
