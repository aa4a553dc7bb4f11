"""What the bytes of records mean, for those who look at them: layouts, and values by field. Room: wire; pure."""

from gateway.wire.layouts.builtin import DOCUMENTS, kept, resolve, told
from gateway.wire.layouts.columns import Cell, Column, Columns, columns_of
from gateway.wire.layouts.document import Component, Layout, parse
from gateway.wire.layouts.fields import TYPES, Field
from gateway.wire.layouts.poses import Pose, pose_of

__all__ = [
    "DOCUMENTS",
    "TYPES",
    "Cell",
    "Column",
    "Columns",
    "Component",
    "Field",
    "Layout",
    "Pose",
    "columns_of",
    "kept",
    "parse",
    "pose_of",
    "resolve",
    "told",
]  # fmt: skip
