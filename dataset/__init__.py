"""The mixed stream: sources, the mixture and its weights, and the positions of what was consumed."""

from dataset.positions import ORIGIN, Consumed, IntervalSet, Span
from dataset.source import Item, Share, Source, SourceReader, SourceStats

__all__ = ["ORIGIN", "Consumed", "IntervalSet", "Item", "Share", "Source", "SourceReader", "SourceStats", "Span"]
