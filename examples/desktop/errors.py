"""The exceptions of the desktop example.

DesktopError
├── InvalidInputs (also ValueError)   a step's inputs break a rule; the message names value and rule
├── InvalidFrame (also ValueError)    a picture is not one that this screen can show
└── InvalidSample (also ValueError)   a training sample lacks a member or holds one that cannot be read
"""

from __future__ import annotations

__all__ = ["DesktopError", "InvalidFrame", "InvalidInputs", "InvalidSample"]


class DesktopError(Exception):
    """Anything that the desktop example refuses."""


class InvalidInputs(DesktopError, ValueError):
    """Inputs on the wire break a rule."""


class InvalidFrame(DesktopError, ValueError):
    """An array or an image file is not a frame of this screen."""


class InvalidSample(DesktopError, ValueError):
    """The members of a training sample cannot be turned into tensors."""
