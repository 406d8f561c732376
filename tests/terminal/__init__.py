"""Tests of the programs for a terminal."""
