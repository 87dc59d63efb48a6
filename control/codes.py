"""Close codes of WebSockets. The dashboard has the same list: change both."""

from __future__ import annotations

from enum import IntEnum


class CloseCode(IntEnum):
    """Why the server closed a socket."""

    GOING_AWAY = 1001
    POLICY = 1008  # the first message was not what this door expects
    TRY_AGAIN = 1013  # too slow: connect again with `since`
    REPLACED = 4409  # another instance of the same actor is here: do not come back
