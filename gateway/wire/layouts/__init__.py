"""What the bytes of records mean, for those who look at them: layouts, and values by field. Room: wire; pure."""

from gateway.wire.layouts.alike import AlikeRecords, by_lengths, columns_together, live_by_lengths, quoted
from gateway.wire.layouts.builtin import DOCUMENTS, kept, resolve, told
from gateway.wire.layouts.columns import Cell, Column, Columns, columns_of
from gateway.wire.layouts.document import Component, Layout, parse
from gateway.wire.layouts.fields import TYPES, Field
from gateway.wire.layouts.poses import Pose, pose_of, poses_of

__all__ = [
    "DOCUMENTS",
    "TYPES",
    "AlikeRecords",
    "Cell",
    "Column",
    "Columns",
    "Component",
    "Field",
    "Layout",
    "Pose",
    "by_lengths",
    "columns_of",
    "columns_together",
    "kept",
    "live_by_lengths",
    "parse",
    "pose_of",
    "poses_of",
    "quoted",
    "resolve",
    "told",
]  # fmt: skip
