"""Commits records 0, 1, 2 … with the running count as state, and prints the count after each commit."""

from __future__ import annotations

import pickle
import sys
import time

from ingest.log import Append, Log

log: Log = pickle.loads(bytes.fromhex(sys.argv[1]))
writer = log.writer("gateway")
count = int(writer.state().get("count", b"0"))
print(count, flush=True)
while True:
    size = 1 + count % 3
    records = [
        Append("steps", number % 2, f"session{number % 2}", b"%d" % number, time.time())
        for number in range(count, count + size)
    ]
    count += size
    writer.commit(records, {"count": b"%d" % count})
    writer.tidy()
    print(count, flush=True)
