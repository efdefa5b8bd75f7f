"""What `predict.py` is made of: files of pairs, and how several processes share one."""
