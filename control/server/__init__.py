"""The control server: doors by concern around one switchboard.

The room promises that it answers at once whatever runs behind it, that nothing is shown before it is stored, that a
client which reads slowly costs nobody else anything, and that the process ends within seconds with any number of tabs
open.
"""

from control.server.app import create_app
from control.server.serve import ControlServer, ControlThread, serve_control

__all__ = ["ControlServer", "ControlThread", "create_app", "serve_control"]
