"""Tests of pyproxy: a file mirrors a module; ``live`` holds those with sockets and processes."""

from hypothesis import settings

# A busy machine is no defect: an example may take as long as it needs.
settings.register_profile("pyproxy", deadline=None)
settings.load_profile("pyproxy")
