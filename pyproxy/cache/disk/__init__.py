"""Responses kept on disk, for all workers of a machine and over restarts."""
