"""Configure Sphinx."""

from pyproxy import __version__

project = "pyproxy"
author = "pyproxy contributors"
copyright = "pyproxy contributors"
version = release = __version__

extensions = ["sphinx_copybutton"]
root_doc = "index"
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = f"pyproxy {version}"
html_static_path = ["_static"]
html_css_files = ["beside.css"]
html_show_sourcelink = False
html_copy_source = False
