"""Where the control server keeps what happened: one SQLite file, one table of events, and tables that follow from it.

The room promises that what was stored survives any kill, that sequence numbers grow by one and are never used again,
that everything but the actors' last words can be made again from the events, and that weeks of training stay bounded.
"""

from control.store.events import EventFilter
from control.store.store import FILE, Heard, Store, StoredActor

__all__ = ["FILE", "EventFilter", "Heard", "Store", "StoredActor"]
