"""What our doors say of a request in its ASGI scope, beyond the standard. Room: http."""

from __future__ import annotations

BODY_IS_HERE = "body_is_here"
"""A callable: whether ``receive`` would answer at once. A scope may be without it."""
