"""The operator's verbs, where a file of their own serves them; `stovetop.cli` registers each."""
