"""The parts of `index.py`."""
