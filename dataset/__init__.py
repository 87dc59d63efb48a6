"""The mixed stream: sources, the mixture and its weights, and the positions of what was consumed.

The room promises that the next batch obeys: a change of weights holds for every row of the next batch that is made,
and what was consumed is what a completed optimizer step used, sample by sample, so that a resume neither loses nor
repeats any, on this number of ranks or another. In reading order:

    positions   source   planning   live · history · shards · mapped · iterable · stream   pool   ahead   mixture
    interactive   receipt   loader   kinds · make
"""

from dataset.class_form import InteractiveParameters
from dataset.decoding import Decode
from dataset.errors import (
    BadSamples,
    DatasetError,
    LayoutError,
    ParameterError,
    ReceiptError,
    SourceError,
    StateError,
    WeightsError,
    WorkerError,
)
from dataset.history import HistorySource
from dataset.interactive import InteractiveMixture
from dataset.iterable import IterableSource
from dataset.kinds import register_source
from dataset.live import LiveSource
from dataset.loader import MixtureLoader
from dataset.make import make_interactive_dataset
from dataset.mapped import MapSource
from dataset.metrics import MixtureMetrics
from dataset.mixture import Weights
from dataset.planning import Finisher, Loaded, Loader, LoadingSource, Planned, PlanningReader
from dataset.positions import ORIGIN, Consumed, IntervalSet, Span
from dataset.receipt import RECEIPT, Receipt, Redraw, take_receipt
from dataset.remote import RemoteOptions
from dataset.shards import ShardSource
from dataset.source import (
    BatchReader,
    FollowingReader,
    FollowingSource,
    Item,
    Run,
    Share,
    Source,
    SourceReader,
    SourceStats,
)
from dataset.state import merge_states
from dataset.statistics import MixtureStatistics, SourceStatistics
from dataset.stream import StreamSource

__all__ = [
    "ORIGIN",
    "RECEIPT",
    "BadSamples",
    "BatchReader",
    "Consumed",
    "DatasetError",
    "Decode",
    "Finisher",
    "FollowingReader",
    "FollowingSource",
    "HistorySource",
    "InteractiveMixture",
    "InteractiveParameters",
    "IntervalSet",
    "Item",
    "IterableSource",
    "LayoutError",
    "LiveSource",
    "Loaded",
    "Loader",
    "LoadingSource",
    "MapSource",
    "MixtureLoader",
    "MixtureMetrics",
    "MixtureStatistics",
    "ParameterError",
    "Planned",
    "PlanningReader",
    "Receipt",
    "ReceiptError",
    "Redraw",
    "RemoteOptions",
    "Run",
    "ShardSource",
    "Share",
    "Source",
    "SourceError",
    "SourceReader",
    "SourceStatistics",
    "SourceStats",
    "Span",
    "StateError",
    "StreamSource",
    "Weights",
    "WeightsError",
    "WorkerError",
    "make_interactive_dataset",
    "merge_states",
    "register_source",
    "take_receipt",
]
