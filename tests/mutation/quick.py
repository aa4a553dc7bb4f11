"""A pytest plugin: hypothesis tries few examples, and the same ones each time."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("mutation", max_examples=25, derandomize=True, database=None, deadline=None)
settings.load_profile("mutation")
