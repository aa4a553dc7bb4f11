"""The Store interface, its engines, SQLite over pages, a world's schema and queries. Room: store.

May enter: ``wire``, apsw, and in ``remote`` httpx; never ``core``, whose state comes in as a factory (``make_state``). To be used: the
interface (:mod:`gateway.store.base`), the engines by their packages, and a world by :mod:`gateway.store.world`.
"""
