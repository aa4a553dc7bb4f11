"""Entities in a world's (or an inventory's) SQLite database: plain SQL, no threads. Room: store.

Every function takes an apsw connection inside a transaction and raises only
:class:`gateway.errors.GatewayError`; none has any other effect, so a transaction may run again.
"""
