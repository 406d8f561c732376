"""Reactors that twistd can be told to use: ``twistd --reactor=NAME``."""
