"""The champion as a file that runs without torch, and what serves it."""
