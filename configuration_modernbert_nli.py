"""Where the configuration is imported from; it stands in `modernbert_nli/configuration_modernbert_nli.py`."""

from modernbert_nli.configuration_modernbert_nli import (
    DEFAULT_BASE,
    DEFAULT_BASE_REVISION,
    ENCODINGS,
    LABELS,
    ModernBertNliConfig,
)

__all__ = ["DEFAULT_BASE", "DEFAULT_BASE_REVISION", "ENCODINGS", "LABELS", "ModernBertNliConfig"]
