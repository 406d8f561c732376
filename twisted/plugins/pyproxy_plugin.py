"""Make ``pyproxy`` known to ``twistd``."""

from twisted.application.service import ServiceMaker

pyproxy = ServiceMaker(
    "pyproxy",
    "pyproxy.tap",
    "Streaming reverse proxy for HTTP, event streams and WebSockets.",
    "pyproxy",
)
