"""Classifiers of text pairs as others publish them, loaded by `AutoModelForSequenceClassification`."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PretrainedConfig

from .. import embedded
from ..configuration_modernbert_nli import LABELS, ModernBertNliConfig
from ..tokenization import encode_pairs, load_tokenizer, max_pair_length

_READ = (".json", ".safetensors", ".bin", ".txt", ".model", ".py")


def label_order(config: PretrainedConfig, name: str, labels: str | None = None) -> list[int]:
    """For entailment, neutral and contradiction, which of a classifier's classes it is.

    Raises:
        ValueError: it has not three classes, or neither it nor `labels` names them.
    """
    names = [str(config.id2label.get(index, f"LABEL_{index}")) for index in range(config.num_labels)]
    if len(names) != len(LABELS):
        raise ValueError(
            f"The classifier {name!r} has {len(names)} classes ({', '.join(names)}), and three are needed: "
            f"{', '.join(LABELS)}. Take one that knows all of them."
        )
    given = [name.strip().lower() for name in (names if labels is None else labels.split(","))]
    if sorted(given) == sorted(LABELS):
        return [given.index(label) for label in LABELS]
    if labels is not None:
        raise ValueError(
            f"{labels!r} does not order the classes of {name!r}: write {', '.join(LABELS)} in its order, "
            "with commas between."
        )
    raise ValueError(
        f"The classifier {name!r} calls its classes {', '.join(names)}, which does not say which is which: "
        "give their order, which its model card may tell, as `labels` (`--teacher_labels` in training, "
        "`?labels=` in evaluation): for instance contradiction,entailment,neutral."
    )


class PairClassifier:
    """A loaded classifier with its tokenizer: texts to logits.

    Args:
        name (`str`): Repository id or folder.
        config (`PretrainedConfig`): Its configuration.
        revision (`str`, *optional*): Its commit.
        dtype (`str`): Its precision.
        base (`str`, *optional*): For a checkpoint of this project, where its base is if not on the Hub.
        trust_remote_code (`bool`): Run code that comes with it.
        device (`torch.device`): Where it goes.

    Raises:
        OSError: it cannot be reached or read.
        ValueError: it is no trained classifier, or its tokenizer cannot pad.
    """

    def __init__(
        self,
        name: str,
        config: PretrainedConfig,
        revision: str | None,
        dtype: str,
        base: str | None,
        trust_remote_code: bool,
        device: torch.device,
    ):
        hub = {"revision": revision, "trust_remote_code": trust_remote_code}
        own = config.model_type == ModernBertNliConfig.model_type
        if own and base is None:
            base = embedded.embedded_folder(config.base_model_name_or_path, config.base_model_revision)
        where = {"base_model_name_or_path": base} if own and base else {}
        model, info = AutoModelForSequenceClassification.from_pretrained(
            name, config=config, dtype=dtype, output_loading_info=True, **hub, **where
        )
        if info["missing_keys"]:  # transformers leaves these random
            raise ValueError(
                f"{name!r} is no trained classifier: it lacks {sorted(info['missing_keys'])[:3]}."
            )
        self.model = model.to(device).eval()
        encoder_config = config.encoder_config if own else config
        self.tokenizer = load_tokenizer(name, encoder_config, **hub)
        if self.tokenizer.pad_token is None:
            raise ValueError(
                f"The tokenizer of the classifier {name!r} has no padding token, which batches need."
            )
        self.window = max_pair_length(encoder_config, self.tokenizer)
        self.apart = own and config.encoding == "separate"

    @torch.inference_mode()
    def __call__(self, texts: Sequence[tuple[str, str]], batch_size: int) -> np.ndarray:
        """Logits `(texts, classes)`, in the classifier's own order.

        Raises:
            PairError: something that is no pair of texts, or does not fit; its position is named.
        """
        tokens = encode_pairs(self.tokenizer, texts, self.window, self.apart)
        order = np.argsort([len(ids) for ids in tokens["input_ids"]], kind="stable")
        logits = np.empty((len(texts), self.model.config.num_labels), np.float32)
        for rows in np.split(order, range(batch_size, len(order), batch_size)):
            batch = {key: [values[row] for row in rows] for key, values in tokens.items()}
            padded = self.tokenizer.pad(batch, return_tensors="pt").to(self.model.device)
            logits[rows] = self.model(**padded).logits.float().cpu().numpy()
        return logits


def digest_of(name: str) -> str:
    """Of a repository, its name, which its revision completes; of a folder, what is in it."""
    if not Path(name).is_dir():
        return name
    digest = hashlib.sha256()
    for path in sorted(Path(name).iterdir()):
        if path.suffix in _READ and path.is_file():
            digest.update(f"{path.name} {path.stat().st_size} ".encode())
            with path.open("rb") as file:
                for block in iter(lambda: file.read(2**20), b""):
                    digest.update(block)
    return digest.hexdigest()
