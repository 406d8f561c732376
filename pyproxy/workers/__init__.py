"""Ring 5: several processes that share the listening sockets, and the one that watches them.

The parent (``service``, ``supervisor``) binds and serves nothing; a worker (``child``, ``serving``)
is a fresh interpreter that adopts the sockets.  Nothing of this is imported with one process.
"""
