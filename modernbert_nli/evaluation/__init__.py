"""Evaluation of NLI models: contestants, figures, tables, pictures."""
