"""Make pyproxy's reactor known to ``twistd --reactor``."""

from twisted.application.reactors import Reactor

relay = Reactor(
    "relay", "pyproxy.reactors.epoll", "pyproxy: epoll with less between an event and its socket."
)
