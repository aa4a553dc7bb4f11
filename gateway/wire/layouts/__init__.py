"""What the bytes of records mean, for those who look at them: layouts, and values by field. Room: wire; pure."""

from gateway.wire.layouts.builtin import DOCUMENTS, kept, resolve, told
from gateway.wire.layouts.document import Component, Layout, parse
from gateway.wire.layouts.fields import TYPES, Field

__all__ = ["DOCUMENTS", "TYPES", "Component", "Field", "Layout", "kept", "parse", "resolve", "told"]
