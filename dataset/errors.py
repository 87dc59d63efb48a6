"""The errors of this room.

DatasetError
├── WeightsError     weights that cannot be used; the old ones stay in force
├── ParameterError   a parameter of a dataset that is unknown or of a wrong type; nothing was changed
├── SourceError      something that cannot be read as a source
│   ├── BadSamples   too many samples in a row could not be decoded
│   └── WorkerError  worker processes that end again and again over the same samples
├── StateError       a saved state that belongs to something else, or of a format that is not known here
├── ReceiptError     receipts completed twice, out of order, or after the stream was restored
└── LayoutError      ranks or worker processes that the stream cannot be read by
"""

from __future__ import annotations


class DatasetError(Exception):
    """Anything that goes wrong in dataset."""


class WeightsError(DatasetError, ValueError):
    """Weights that cannot be used; the old ones stay in force."""


class ParameterError(DatasetError, ValueError):
    """A parameter that is unknown or of a wrong type; nothing was changed."""


class SourceError(DatasetError):
    """Something that cannot be read as a source."""


class BadSamples(SourceError):
    """Too many samples in a row could not be decoded; the cause is the last one's error."""


class WorkerError(SourceError):
    """Worker processes ended again and again while they loaded the same samples."""


class StateError(DatasetError):
    """A saved state that belongs to something else, or of a format that is not known here."""


class ReceiptError(DatasetError):
    """Receipts completed twice, out of order, or after the stream was restored."""


class LayoutError(DatasetError):
    """Ranks or worker processes that the stream cannot be read by."""
