"""Footfall: self-hosted web analytics that never loses a hit."""

__version__ = "0.1.0"
