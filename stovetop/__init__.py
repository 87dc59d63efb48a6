"""The composition root: settings loaded and handed out, the command line, and `up` with its supervisor.

It imports the other rooms lazily, when a role needs them; nothing imports it. The supervisor promises that what dies is
started again with growing pauses, that a configuration error is not, and that nothing it started outlives it.
"""
