"""Settings of the tests of dataset."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("dataset", deadline=None, max_examples=40)
settings.load_profile("dataset")
