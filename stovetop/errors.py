"""The errors of this room.

StovetopError
├── ConfigurationError   settings, plug-ins or ports that will fail again until they are changed
└── NotRunning           a door that nobody stands behind
"""

from __future__ import annotations


class StovetopError(Exception):
    """Anything that the command line reports as one line."""


class ConfigurationError(StovetopError):
    """Settings, plug-ins or ports that will fail again until they are changed."""


class NotRunning(StovetopError):
    """A door that nobody stands behind."""
