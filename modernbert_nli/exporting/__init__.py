"""A checkpoint as graphs that run without PyTorch."""
