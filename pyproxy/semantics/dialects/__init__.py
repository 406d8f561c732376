"""How models say what they are and what an answer took: a module for each dialect."""
