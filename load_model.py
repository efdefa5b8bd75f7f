"""The published loader's import path; it stands in `modernbert_nli/published_heads.py`."""

from modernbert_nli.published_heads import (
    from_head_file,
    load_modernbert_nli,
    predict_with_abstention,
    read_heads,
)

__all__ = ["from_head_file", "load_modernbert_nli", "predict_with_abstention", "read_heads"]
