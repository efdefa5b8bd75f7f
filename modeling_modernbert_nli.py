"""Where the models are imported from; they stand in `modernbert_nli/modeling_modernbert_nli.py`."""

from modernbert_nli.modeling_modernbert_nli import (
    ModernBertNliForSequenceClassification,
    ModernBertNliModel,
    ModernBertNliOutput,
)

__all__ = ["ModernBertNliForSequenceClassification", "ModernBertNliModel", "ModernBertNliOutput"]
