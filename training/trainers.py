"""The two stages as Trainers over cached states: the NLI head, then the abstention head on its errors."""

from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction, Trainer
from transformers.trainer_pt_utils import LengthGroupedSampler

from modeling_modernbert_nli import ModernBertNliModel
from training.metrics import accuracy, aurc
from training.states import PairStates, collate


class StageTrainer(Trainer):
    """Trains some parts of the heads and leaves the others, and the encoder, alone."""

    parts: tuple[str, ...]

    def __init__(self, model: ModernBertNliModel, **kwargs: Any):
        # Before Trainer wraps the model for several processes, which looks at what needs a gradient.
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in self.parts)
        super().__init__(model=model, data_collator=collate, compute_metrics=self.figures, **kwargs)

    def _get_train_sampler(self, train_dataset: PairStates | None = None) -> torch.utils.data.Sampler:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        generator = torch.Generator().manual_seed(self.args.seed)
        return LengthGroupedSampler(
            self.args.train_batch_size, lengths=dataset.lengths.tolist(), generator=generator
        )

    @staticmethod
    def figures(prediction: EvalPrediction) -> dict[str, float]:
        raise NotImplementedError


class NliTrainer(StageTrainer):
    """Stage 1: cross-entropy of the three labels."""

    parts = ("nli_hidden", "nli_output")

    @staticmethod
    def figures(prediction: EvalPrediction) -> dict[str, float]:
        return {"accuracy": accuracy(prediction.predictions[0], prediction.label_ids)}


class AbstentionTrainer(StageTrainer):
    """Stage 2: cross-entropy of "the NLI head errs here", on pairs that the NLI head was not fitted to.

    Errors that a model makes on its own training data say little: there it hardly makes any.
    """

    parts = ("abstention_head",)

    def __init__(self, model: ModernBertNliModel, train_dataset: PairStates, **kwargs: Any):
        super().__init__(model=model, train_dataset=train_dataset, **kwargs)
        unseen = list((kwargs.get("eval_dataset") or {}).values())
        for pairs in (train_dataset, *unseen):
            errors = {}
            for encoding in pairs.encoded:
                logits = predict(self, pairs.only(encoding))["logits"]
                errors[encoding] = (logits.argmax(axis=-1) != pairs.labels).astype(np.int64)
            pairs.abstention_labels = errors

    @staticmethod
    def figures(prediction: EvalPrediction) -> dict[str, float]:
        logits, _, uncertainty = prediction.predictions
        return {"aurc": aurc(logits.argmax(axis=-1) != prediction.label_ids, uncertainty)}


def predict(trainer: Trainer, dataset: PairStates) -> dict[str, np.ndarray]:
    """`logits` (n, 3), `labels` (n,) and `uncertainty` (n,) of a dataset in one encoding, in its order."""
    output = trainer.predict(dataset, metric_key_prefix="predict")
    logits, _, uncertainty = output.predictions
    return {"logits": logits, "labels": output.label_ids, "uncertainty": uncertainty}


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that makes held-out probabilities honest (Guo et al. 2017, arXiv:1706.04599)."""
    log_temperature = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    scores, targets = torch.tensor(logits, dtype=torch.float64), torch.tensor(labels)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=50)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(scores / log_temperature.exp(), targets)
        loss.backward()
        return loss

    optimizer.step(closure)
    return log_temperature.exp().item()


def fold_temperature(model: ModernBertNliModel, temperature: float) -> None:
    """Divide the logits by a temperature, for every user of the checkpoint: in the layer that makes them."""
    with torch.no_grad():
        for parameter in model.nli_output.parameters():
            parameter.div_(temperature)
