"""The cache: what asks it, what fills it, and where it keeps things.

Owns lookups, fetches and stores.  What may be kept and used is said by ``semantics``.
"""
