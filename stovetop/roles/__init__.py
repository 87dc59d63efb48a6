"""The processes of a running service, one module each; `stovetop.play` runs one."""
