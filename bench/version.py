"""Versions that end up in every record."""

VERSION = "0.1.0"

NUMBERS = 2
"""Raised by one whenever a change to the code can change a score. Part of each run's identity."""
