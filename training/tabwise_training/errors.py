"""Errors of the training commands: each names what is wrong and what to do."""

from __future__ import annotations


class TrainingError(Exception):
    """Base of all; the command line prints it as one line."""


class CorpusError(TrainingError):
    """A source of the corpus, or a corpus itself, cannot be used as it is."""


class ManifestError(CorpusError):
    """The package manifest is not valid; the message names entry and key."""


class DownloadError(CorpusError):
    """A package could not be fetched, or is not the file that the manifest names."""


class LicenceError(CorpusError):
    """A package's own licence does not confirm what the manifest says of it."""
