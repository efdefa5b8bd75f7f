"""The cases of `speed.py`: each measures one thing beside what else does it, and returns rows of a table."""
