"""Heads and routes for a kind of text, from labelled examples of it."""
