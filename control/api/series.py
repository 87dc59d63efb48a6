"""Numbers over steps."""

from __future__ import annotations

from control.protocol import Frozen


class MetricSeries(Frozen):
    """One metric of one branch, in columns of equal length, by step. With `downsampled`, a row stands for a bucket of
    steps: its last step and time, and the smallest, largest and mean value; else the three are the value itself."""

    branch: str
    metric: str
    downsampled: bool
    steps: tuple[int, ...]
    times: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    mean: tuple[float | None, ...]


class SeriesPage(Frozen):
    """Series of a run; `seq` is the event up to which they hold."""

    run: str
    seq: int
    series: tuple[MetricSeries, ...]


class Comparison(Frozen):
    """The same metrics of several runs, up to the event `seq`: a page of series for each run."""

    seq: int
    runs: tuple[SeriesPage, ...]
