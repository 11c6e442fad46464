"""Errors of the training commands: each names what is wrong and what to do."""

from __future__ import annotations


class TrainingError(Exception):
    """Base of all; the command line prints it as one line."""
