"""An upstream to try the proxy with: the OpenAI wire format, streams and bodies, without a model.

It is a stock ``twisted.web`` site that knows nothing of the proxy in front of it.
"""

from pyproxy.demo.site import demo_site

__all__ = ["demo_site"]
