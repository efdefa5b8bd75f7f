"""Natural language inference with learned abstention: small heads on a frozen encoder.

    import modernbert_nli

    nli = modernbert_nli.load()  # the embedded checkpoint; or a folder, or a repository id of the Hub
    nli("A man is playing guitar on stage.", "A person is making music.")

Importing this package loads nothing else: each name below brings what it needs when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .configuration_modernbert_nli import ModernBertNliConfig
    from .loading import load, register
    from .modeling_modernbert_nli import ModernBertNliForSequenceClassification, ModernBertNliModel
    from .pipeline_modernbert_nli import NliAbstentionPipeline
    from .states import TokenStates

_MODULES = {
    "ModernBertNliConfig": "configuration_modernbert_nli",
    "ModernBertNliForSequenceClassification": "modeling_modernbert_nli",
    "ModernBertNliModel": "modeling_modernbert_nli",
    "NliAbstentionPipeline": "pipeline_modernbert_nli",
    "TokenStates": "states",
    "load": "loading",
    "register": "loading",
}
__all__ = [
    "ModernBertNliConfig",
    "ModernBertNliForSequenceClassification",
    "ModernBertNliModel",
    "NliAbstentionPipeline",
    "TokenStates",
    "load",
    "register",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
