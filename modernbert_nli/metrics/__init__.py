"""Metrics for `evaluate.load`, each in a folder that can be published as a Space."""
