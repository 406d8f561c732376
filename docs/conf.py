"""Configure Sphinx."""

from pyproxy import __version__

project = "pyproxy"
author = "pyproxy contributors"
copyright = "pyproxy contributors"
version = release = __version__

extensions: list[str] = []
root_doc = "index"
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "alabaster"
html_theme_options = {"description": "A streaming reverse proxy", "show_powered_by": False}
html_show_sourcelink = False
