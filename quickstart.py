"""The embedded default's import path; it stands in `modernbert_nli/embedded.py`."""

from modernbert_nli.embedded import BASE, BASE_REVISION, CHECKPOINT, base_folder, embedded_folder

__all__ = ["BASE", "BASE_REVISION", "CHECKPOINT", "base_folder", "embedded_folder"]
