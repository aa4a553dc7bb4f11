"""Several processes that are one gateway: a supervisor, workers that share the ports, and the owner of the embedded store.
Room: runtime.

:mod:`.supervisor` starts them and keeps them; :mod:`.group` is what a worker knows of the others; what they say to each other
goes over :mod:`.channel`, asked by :mod:`.siblings` and answered by :mod:`.service`; :mod:`.edge` serves readers of a world
whose home is another worker, and :mod:`.tunnel` its publishers.
"""
