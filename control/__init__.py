"""The switchboard between people, agents and the processes that they steer."""
