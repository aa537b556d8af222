"""The connector from a terminal: `python -m cosell --help`."""
