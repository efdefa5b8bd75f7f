"""The heads that a training begins with: new ones on a pretrained base, or those of a checkpoint."""

from dataclasses import fields
from typing import Any

from .. import embedded
from ..configuration_modernbert_nli import ENCODINGS, LABELS, ModernBertNliConfig
from ..modeling_modernbert_nli import ModernBertNliModel
from .arguments import HeadArguments

_SIZES = ("alignment_size", "comparison_size", "nli_hidden_size")


def new_model(head: HeadArguments) -> ModernBertNliModel:
    """New heads on a pretrained base.

    Raises:
        ValueError: arguments that do not go together.
    """
    folder, revision = head.base_folder, head.base_revision
    if folder is None and (folder := embedded.embedded_folder(head.base_model, revision)):
        revision = embedded.BASE_REVISION
    if head.base_folder and head.base_model == embedded.BASE:
        raise ValueError(
            "`--base_folder` needs `--base_model`: the name that the checkpoint gives to this base."
        )
    encodings = ["joint"] if head.head_type == "cls" else head.encodings
    if unknown := set(encodings) - set(ENCODINGS):
        raise ValueError(f"`--encodings` takes {' and '.join(ENCODINGS)}, not {unknown.pop()!r}.")
    chosen = {name: getattr(head, name) for name in _SIZES if getattr(head, name) is not None}
    config = ModernBertNliConfig.from_base(
        head.base_model,
        revision,
        folder,
        head_type=head.head_type,
        encoding=encodings[0],
        head_dropout=head.head_dropout,
        abstention_weight=head.abstention_weight,
        **chosen,
    )
    layers = {"joint": head.joint_layers, "separate": head.separate_layers}
    config.encoder_layers = {name: layers[name] or config.encoder_layers[name] for name in encodings}
    config.check_layers()
    return ModernBertNliModel.from_base(config, dtype=head.base_dtype)


def trained_model(head: HeadArguments) -> ModernBertNliModel:
    """The heads of a checkpoint, to go on from.

    What they are (base, family, encodings, layers, sizes) is the checkpoint's. Options that are left at their
    default say nothing about it.

    Raises:
        OSError: the checkpoint or its base cannot be reached or read.
        ValueError: an option asks for other heads than the checkpoint has.
    """
    name = str(head.init_from)
    config = ModernBertNliConfig.from_pretrained(name)
    if list(config.id2label.values()) != list(LABELS):
        raise ValueError(
            f"`--init_from {name}`: its heads tell {', '.join(config.id2label.values())} apart, not "
            f"{', '.join(LABELS)}, which is what is learnt here."
        )
    known: dict[str, Any] = {
        "base_model": config.base_model_name_or_path,
        "base_revision": config.base_model_revision,
        "head_type": config.head_type,
        "encodings": [config.encoding, *(each for each in config.encoder_layers if each != config.encoding)],
        "joint_layers": config.encoder_layers.get("joint", []),
        "separate_layers": config.encoder_layers.get("separate", []),
        **{size: getattr(config, size) for size in _SIZES},
    }
    for item in fields(HeadArguments):
        asked = getattr(head, item.name)
        if item.name in known and asked not in (getattr(HeadArguments(), item.name), known[item.name]):
            raise ValueError(
                f"`--{item.name} {asked}`, but the heads of `--init_from {name}` have {known[item.name]}: "
                "leave one of the two out."
            )
    config.head_dropout = head.head_dropout
    if head.abstention_weight != HeadArguments.abstention_weight:
        config.abstention_weight = head.abstention_weight
    own = (config.base_model_name_or_path, config.base_model_revision)
    folder = head.base_folder or embedded.embedded_folder(*own)
    location: dict[str, Any] = {"base_model_name_or_path": folder} if folder else {}
    return ModernBertNliModel.from_pretrained(name, config=config, dtype=head.base_dtype, **location)
