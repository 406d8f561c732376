"""The measures of WebSockets: their upstream, their load, their checks."""
