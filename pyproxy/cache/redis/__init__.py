"""Responses kept in Redis, for several machines."""
