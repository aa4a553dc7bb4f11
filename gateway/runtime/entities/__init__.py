"""Entities of worlds and inventories, served: read, written, watched, moved, woken. Room: runtime. The rest of ``runtime`` asks for
:class:`.service.EntityService` alone.

:mod:`.registry` opens the :mod:`.database` of a world or of an inventory, whose one :mod:`.writer` runs what is asked for
together in one transaction; :mod:`.scan` and :mod:`.feed` read it at a version, :mod:`.times` finds that of a moment; :mod:`.live` is
a watcher's session, :mod:`.following` that of who follows one from world to world, :mod:`.transfers` a move between two databases, :mod:`.awake` which of them are awake, and :mod:`.upkeep`
lets old versions of inventories go.
"""
