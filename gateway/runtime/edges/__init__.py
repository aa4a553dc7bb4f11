"""Worlds whose home is another gateway over the same store, on whatever machine, served here. Room: runtime.

:mod:`.peers` is what this gateway knows of the others and how it reaches them; :mod:`.feed` is one session by which a home is
followed; :mod:`.edge` has one open world followed, and :mod:`.sources` answers those that follow this one. :mod:`.several`
is what the house asks of an edge, to other workers (:mod:`gateway.runtime.workers.edge`) and to other gateways alike.
"""
