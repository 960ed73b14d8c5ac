"""Footfall: self-hosted web analytics that never loses a hit."""

__version__ = "0.1.0"
RELEASED = "2026-11-01"
"""A day (UTC) before which no machine can run this version; a clock that says so is wrong."""
