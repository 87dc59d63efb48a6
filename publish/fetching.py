"""The process that `publish.fetcher` starts. It is imported by nothing, since it takes standard output for itself."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from contextlib import suppress
from typing import IO

import msgspec

from publish.cache import Cache
from publish.crew import LastInLine, be_nice
from publish.errors import HubUnavailable
from publish.fetcher import Answer, Order, say
from publish.hub import ReadableHub
from publish.places import followers_hub
from publish.settings import FollowSettings
from publish.signing import TrustedKeys

NICER = 19
PATIENCE = 1.0
"""Seconds for which fetching takes only what requests leave."""

_decode_order = msgspec.json.Decoder(Order).decode


def main() -> None:
    """The process: settings in the first line, then an order a line, to the end of standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for whoever started this
    be_nice(NICER)
    last = LastInLine(PATIENCE)
    told, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    if not (first := told.readline()):  # whoever started this ended at once
        return
    place = FollowSettings.model_validate_json(first)
    threading.Thread(target=_listen, args=(told, lines), daemon=True).start()
    cache = Cache(place.cache, TrustedKeys(place.trusted_keys))
    hub: ReadableHub | None = None
    while True:
        order = _decode_order(lines.get())
        if order.pointer is None:
            with suppress(OSError):  # the next order takes what was left
                cache.prune(order.keep)
            continue
        try:
            if hub is None:
                hub = followers_hub(place)
            with last.working():
                obtained = cache.obtain(hub, order.pointer)
            answer = Answer(obtained.received, obtained.links)
        except Exception as error:  # whoever asked decides what it means
            after = error.retry_after if isinstance(error, HubUnavailable) else 0.0
            answer = Answer(kind=type(error).__name__, error=str(error), retry_after=after)
        say(answers, msgspec.json.encode(answer))


def _listen(told: IO[bytes], lines: queue.SimpleQueue[bytes]) -> None:
    """Pass lines on; the end of them is the end of this process, also in the middle of its work."""
    for line in told:
        lines.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
