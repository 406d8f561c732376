"""What several machines know together, by way of a Redis.

Owns the connection to it.  What is kept there is said by who uses it.
"""
