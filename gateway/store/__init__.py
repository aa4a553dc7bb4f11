"""The Store interface, its engines, SQLite over pages, a world's schema and queries. Room: store."""
