"""Selective prediction as a metric."""
