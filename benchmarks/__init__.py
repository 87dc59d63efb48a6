"""One program per claim, measured against peers or targets in the same run.

`python -m benchmarks.NAME` prints a table; with `--json` its last line is one object with the figures and targets.
"""
