"""The stage before the others, where a low-rank adapter of the base is wanted: it learns beside an NLI head.

Both encodings of a batch go through the base with the adapter on, and the loss flows back into it. The stages
that follow then train the heads on the adapter's states, which are kept as those of the plain base are.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler
from transformers import Trainer

from ..encoder import layer_stack
from ..heads import HYPOTHESIS, PREMISE
from ..lora import LowRankAdapter, low_rank
from ..modeling_modernbert_nli import ModernBertNliModel
from ..tokenization import encode_pairs, max_pair_length, split_rows
from .arguments import HeadArguments
from .data import Pairs
from .on_states import judge_states
from .trainer_arguments import StageArguments
from .trainers import LengthSampler
from .work_folder import last_checkpoint

_PARTS = ("adapter", "nli_hidden", "nli_output")


def add_adapter(model: ModernBertNliModel, rank: int) -> None:
    """Give a model a new adapter, which changes nothing before it is trained.

    Raises:
        ValueError: the base's blocks cannot be told, or the heads have an adapter.
    """
    stack = layer_stack(model.encoder)
    if stack is None:
        raise ValueError(f"The blocks of {model.config.base_model_name_or_path} cannot be told: no adapter.")
    if model.config.adapter:
        raise ValueError("The heads to go on from have an adapter already: leave `--adapter` out.")
    last = max(layer for layers in model.config.encoder_layers.values() for layer in layers)
    model.config.adapter = low_rank(model.encoder, stack, last, rank)
    model.adapter = LowRankAdapter(**model.config.adapter).to(model.device)
    model.adapter.install(model.encoder)


def train_adapter(
    model: ModernBertNliModel, sources: Sequence[Pairs], head: HeadArguments, args: StageArguments, work: Path
) -> None:
    """Train a new adapter, from the start or from its last checkpoint.

    Args:
        model (`ModernBertNliModel`): Gets the adapter; its NLI head learns too.
        sources (`Sequence[Pairs]`): What to learn from, without what is held out.
        work (`Path`): Folder for what Trainer writes.

    Raises:
        ValueError: several processes, or what `add_adapter` raises.
    """
    if args.world_size > 1:
        raise ValueError("An adapter is trained by one process: leave torchrun out, or `--adapter`.")
    add_adapter(model, head.adapter_rank)
    own = copy.copy(args)
    own.output_dir, own.num_train_epochs = str(work / "adapter"), args.adapter_epochs
    own.learning_rate, own.eval_strategy = args.adapter_learning_rate, "no"
    own.per_device_train_batch_size = min(args.per_device_train_batch_size, 32)
    trainer = AdapterTrainer(model=model, args=own, train_dataset=TextPairs(model, sources, args.seed))
    trainer.train(resume_from_checkpoint=last_checkpoint(Path(own.output_dir)) if args.resume else None)
    model.adapter.requires_grad_(False)


class TextPairs(Dataset):
    """Labelled pairs as tokens, in every encoding of a model."""

    def __init__(self, model: ModernBertNliModel, sources: Sequence[Pairs], seed: int):
        window = max_pair_length(model.config.encoder_config, model.tokenizer)
        rows = [(pairs, row) for pairs in sources for row in pairs.repeated(seed).tolist()]
        texts = [(pairs.premises[row], pairs.hypotheses[row]) for pairs, row in rows]
        self.labels = [int(pairs.labels[row]) for pairs, row in rows]
        self.tokens = {
            encoding: encode_pairs(model.tokenizer, texts, window, encoding == "separate")["input_ids"]
            for encoding in model.config.encoder_layers
        }

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"labels": self.labels[row], **{name: ids[row] for name, ids in self.tokens.items()}}

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each pair, (pairs,)."""
        return np.array([len(ids) for ids in next(iter(self.tokens.values()))])


class AdapterTrainer(Trainer):
    """Trains adapter and NLI head through the base."""

    def __init__(self, model: ModernBertNliModel, **kwargs: Any):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in _PARTS)
        super().__init__(model=model, data_collator=lambda items: {"items": items}, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler:
        lengths = (train_dataset or self.train_dataset).lengths
        return LengthSampler(lengths, self.args.train_batch_size, self.args.seed)

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        """Cross-entropy, mean over the encodings."""
        heads: Any = self.accelerator.unwrap_model(model)
        items = inputs["items"]
        states, segments = {}, {}
        for encoding in heads.config.encoder_layers:
            rows = [item[encoding] for item in items]
            states[encoding], segments[encoding] = states_of(heads, rows, encoding)
        labels = torch.tensor([item["labels"] for item in items], device=heads.device)
        outputs = judge_states(heads, states, segments, labels)
        return (outputs.loss, outputs) if return_outputs else outputs.loss


def states_of(
    model: ModernBertNliModel, rows: Sequence[Sequence[int]], encoding: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """States (pairs, layers, tokens, hidden_size) and segments (pairs, tokens), with gradients.

    Args:
        rows (`Sequence[Sequence[int]]`): Tokens of pairs in one sequence each.
    """
    if encoding == "joint":
        states, present, ids = _encoded(model, rows, encoding)
        return states, model.segments(ids, present)
    sides = [_encoded(model, side, encoding) for side in split_rows(rows, model.config.sep_token_id)]
    segments = [
        present * number for (_, present, _), number in zip(sides, (PREMISE, HYPOTHESIS), strict=True)
    ]
    return torch.cat([states for states, _, _ in sides], dim=2), torch.cat(segments, dim=1)


def _encoded(
    model: ModernBertNliModel, rows: Sequence[Sequence[int]], encoding: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    texts = [torch.tensor(row, device=model.device) for row in rows]
    pad = torch.nn.utils.rnn.pad_sequence
    ids = pad(texts, batch_first=True, padding_value=model.config.pad_token_id or 0)
    present = pad([torch.ones_like(text) for text in texts], batch_first=True)
    inputs = {"input_ids": ids, "attention_mask": present}
    states, _ = model.run_encoder(inputs, encoding, whole=False)
    return torch.stack(states, dim=1), present, ids
