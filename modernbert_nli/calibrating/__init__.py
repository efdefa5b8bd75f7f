"""Thresholds that keep a target risk, from labelled pairs or texts."""
