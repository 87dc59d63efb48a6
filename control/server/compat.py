"""What is worked around in libraries; each has a test that fails when it is needed no more."""

from __future__ import annotations

import logging

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

FALSE_ALARM = "ASGI callable returned without completing handshake."


class NoFalseAlarm(logging.Filter):
    """uvicorn 0.54 logs an error for every WebSocket that was refused with a response, which is no error."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.getMessage() != FALSE_ALARM


class CalmWebSocket(WebSocketsSansIOProtocol):
    """uvicorn 0.54 breaks off its whole shutdown when one WebSocket is just being closed by its client."""

    def shutdown(self) -> None:
        try:
            super().shutdown()
        except InvalidState:
            self.transport.close()


def quiet_false_alarms() -> None:
    """Keep the false alarm out of the log; harmless when done twice."""
    logger = logging.getLogger("uvicorn.error")
    if not any(isinstance(known, NoFalseAlarm) for known in logger.filters):
        logger.addFilter(NoFalseAlarm())
