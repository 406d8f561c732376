"""Ring 5: programs for a terminal that ask the admin site of a proxy that runs.

Must know the site by its address only, and need nothing but the standard library and attrs.
"""
