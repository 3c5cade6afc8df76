"""What is raised for a dataset that cannot be used."""


class DatasetError(ValueError):
    """A dataset is missing or wrong.  The message is one line: what was found, and what to change."""
