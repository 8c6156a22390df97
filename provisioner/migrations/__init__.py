"""Alembic migrations of the state database, from the first table on."""
