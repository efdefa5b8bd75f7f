"""The two stages as Trainers over encoder states: the NLI head, then the abstention head."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler
from transformers import EvalPrediction, Trainer

from ..heads import label_loss
from ..modeling_modernbert_nli import ModernBertNliModel
from .metrics import accuracy, aurc, wrong
from .on_states import heads_alone
from .states import PairStates, collate
from .teacher import distillation_loss

_BATCHES_SORTED_TOGETHER = 50


class TrainingDiverged(ArithmeticError):
    """The loss is no number any more."""


class LengthSampler(Sampler):
    """Indices in an order in which batches hold pairs of like length, and batches of any length alternate.

    The order depends on the seed and the epoch alone: a run that is resumed in the middle of an epoch sees
    the rest of that epoch.

    Args:
        lengths (`np.ndarray` of shape `(n,)`): Tokens of each pair.
        batch_size (`int`): Of all processes together.
        seed (`int`): Of the order.
        in_turn (`Callable`, *optional*): From indices and the number of a batch to what is asked for instead:
            see `PairStates.in_turn`.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        seed: int,
        in_turn: Callable[[np.ndarray, int], np.ndarray] | None = None,
    ):
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0
        self.in_turn = in_turn or (lambda indices, _: indices)

    def set_epoch(self, epoch: int) -> None:
        """Called by Trainer before each epoch, and after a resumption."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self.seed, self.epoch))
        order, batches = random.permutation(len(self.lengths)), []
        for part in np.split(order, range(0, len(order), _BATCHES_SORTED_TOGETHER * self.batch_size)[1:]):
            part = part[np.argsort(self.lengths[part], kind="stable")]
            batches += np.split(part, range(0, len(part), self.batch_size)[1:])
        # The one that is not full stays the last, or the others would not be batches any more.
        full = [batch for batch in batches if len(batch) == self.batch_size]
        rest = [batch for batch in batches if len(batch) < self.batch_size]
        random.shuffle(full)
        for number, batch in enumerate([*full, *rest]):
            yield from self.in_turn(batch, self.epoch + number).tolist()


class StageTrainer(Trainer):
    """Trains some parts of the heads and leaves the others, and the encoder, alone."""

    parts: tuple[str, ...]

    def __init__(self, model: ModernBertNliModel, **kwargs: Any):
        # Before Trainer wraps the model for several processes, which looks at what needs a gradient.
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in self.parts)
        arguments = kwargs.get("args")
        if arguments is not None and arguments.encodings_in_turn:
            arguments.ddp_find_unused_parameters = True  # the layer weights of those whose turn it is not
        heads = heads_alone(model)
        super().__init__(model=heads, data_collator=collate, compute_metrics=self.figures, **kwargs)

    def _get_train_sampler(self, train_dataset: PairStates | None = None) -> Sampler:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        batch_size = self.args.train_batch_size * self.args.world_size
        in_turn = dataset.in_turn if self.args.encodings_in_turn else None
        return LengthSampler(dataset.lengths, batch_size, self.args.seed, in_turn)

    def get_eval_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        """As in Trainer, but `--dataloader_drop_last` leaves out nothing that is measured."""
        return self._of_all(super().get_eval_dataloader, *args, **kwargs)

    def get_test_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        """The same."""
        return self._of_all(super().get_test_dataloader, *args, **kwargs)

    def _of_all(self, make: Callable[..., DataLoader], *args: Any, **kwargs: Any) -> DataLoader:
        asked, self.args.dataloader_drop_last = self.args.dataloader_drop_last, False
        try:
            return make(*args, **kwargs)
        finally:
            self.args.dataloader_drop_last = asked

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As in Trainer, but a loss that is no number ends the run: it would only spoil what was learnt."""
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            raise TrainingDiverged(
                f"The loss became {loss.item()} at step {self.state.global_step + 1} of "
                f"{type(self).__name__}. Checkpoints up to there are in {self.args.output_dir}. "
                "Try a lower `--learning_rate`, or `--max_grad_norm 0.5`."
            )
        return loss

    @staticmethod
    def figures(prediction: EvalPrediction) -> dict[str, float]:
        raise NotImplementedError


class NliTrainer(StageTrainer):
    """Stage 1: cross-entropy of the labels, and the distance to a teacher's logits where there are any.

    Args:
        alpha, beta (`float`): Weights of the two.
    """

    parts = ("nli_hidden", "nli_output")

    def __init__(self, model: ModernBertNliModel, alpha: float = 1.0, beta: float = 0.0, **kwargs: Any):
        super().__init__(model, **kwargs)
        self.alpha, self.beta = alpha, beta

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any
    ) -> Any:
        teacher_logits = inputs.pop("teacher_logits", None)
        if teacher_logits is None:
            return super().compute_loss(model, inputs, return_outputs, **kwargs)
        outputs = model(**inputs)
        loss = distillation_loss(outputs.logits, inputs["labels"], teacher_logits, self.alpha, self.beta)
        return (loss, outputs) if return_outputs else loss

    @staticmethod
    def figures(prediction: EvalPrediction) -> dict[str, float]:
        return {"accuracy": accuracy(prediction.predictions[0], prediction.label_ids)}


class AbstentionTrainer(StageTrainer):
    """Stage 2: cross-entropy of "the NLI head errs here".

    Learnt on pairs that the NLI head was not fitted to: on its own training data it hardly errs.
    """

    parts = ("abstention_head",)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As in Trainer; a teacher's logits are for stage 1."""
        inputs.pop("teacher_logits", None)
        return super().compute_loss(model, inputs, *args, **kwargs)

    def __init__(self, model: ModernBertNliModel, train_dataset: PairStates, **kwargs: Any):
        super().__init__(model=model, train_dataset=train_dataset, **kwargs)
        unseen = list((kwargs.get("eval_dataset") or {}).values())
        for pairs in (train_dataset, *unseen):
            errors = {}
            for encoding in pairs.encoded:
                logits = predict(self, pairs.only(encoding))["logits"]
                errors[encoding] = wrong(logits, pairs.labels).astype(np.int64)
            pairs.abstention_labels = errors

    @staticmethod
    def figures(prediction: EvalPrediction) -> dict[str, float]:
        logits, _, uncertainty = prediction.predictions[:3]
        return {"aurc": aurc(wrong(logits, prediction.label_ids), uncertainty)}


def predict(trainer: Trainer, dataset: PairStates) -> dict[str, np.ndarray]:
    """`logits` (n, 3), `labels` (n,) and `uncertainty` (n,) of a dataset in one encoding, in its order."""
    logits, _, uncertainty, *_ = _outputs(trainer, dataset)
    return {"logits": logits, "labels": dataset.labels, "uncertainty": uncertainty}


def _outputs(trainer: Trainer, dataset: PairStates) -> list[np.ndarray]:
    order = np.argsort(dataset.lengths, kind="stable")  # long pairs meet long ones: less padding
    # Without the labels: those of a two-way set are no classes of the heads, and no loss is wanted here.
    sorted_pairs = PairStates(dataset.take(order).encoded, np.zeros_like(dataset.labels))
    outputs = trainer.predict(sorted_pairs, metric_key_prefix="predict").predictions
    place = order.argsort()
    return [values[place] for values in outputs]


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that makes held-out probabilities honest (Guo et al. 2017, arXiv:1706.04599)."""
    log_temperature = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    scores, targets = torch.tensor(logits, dtype=torch.float64), torch.tensor(labels)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = label_loss(scores / log_temperature.exp(), targets)
        loss.backward()
        return loss

    optimizer.step(closure)
    return log_temperature.exp().item()


def calibrated(output: torch.nn.Module, logits: list[np.ndarray], labels: np.ndarray) -> float:
    """Fit the temperature of a layer's logits, by encoding, to held-out pairs, and fold it into the layer."""
    temperature = fit_temperature(np.concatenate(logits), np.tile(labels, len(logits)))
    fold_temperature(output, temperature)
    return temperature


def fold_temperature(output: torch.nn.Module, temperature: float) -> None:
    """Divide logits by a temperature, for every user of the checkpoint: in the layer that makes them."""
    with torch.no_grad():
        for parameter in output.parameters():
            parameter.div_(temperature)
