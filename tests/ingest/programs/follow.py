"""Follows partition 0 of steps and prints `offset seconds` for each record: how long after its `time` it was seen."""

from __future__ import annotations

import pickle
import sys
import time

from ingest.log import Log

log: Log = pickle.loads(bytes.fromhex(sys.argv[1]))
wanted = int(sys.argv[2])
reader = log.reader()
print("ready", flush=True)
offset = seen = 0
while seen < wanted:
    fetch = reader.fetch("steps", 0, offset)
    now = time.time()
    for record in fetch.records:
        print(record.offset, now - record.time, flush=True)
        seen += 1
    offset = fetch.next_offset
    if not fetch.records:
        reader.wait(1.0)
