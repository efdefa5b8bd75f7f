"""Heads for one's own kind of text, from some 50 to some 1,000 labelled pairs: what `nli.adapt` does.

The encoder and all that summarises a pair stay; what is concluded from a summary is learnt anew (see
`heads.py`), from the labels and, so that little is forgotten, from the start's own judgements
of a sample of what it had learnt from (replay, and learning without forgetting, Li & Hoiem 2016,
arXiv:1606.09282; see `replay.py`). The heads then lie between the start and what was learnt
(WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903): as far from the start as costs at most a point of accuracy
on that sample, and as pays on the pairs themselves. Both are cross-validated, no premise being on two sides.
Where nothing pays beyond noise, the start is kept. What was compared: `experiments/results/adapt.md`.

The judgements of cross-validation also calibrate: each is of heads that had not seen the pair.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers.utils import logging

from .heads import label_loss
from .replay import ReplaySample
from .risk_control import DELTA, MIN_PAIRS, entry_of, guarantee_table, pairs_needed
from .tokenization import as_pair, items_of, plain

if TYPE_CHECKING:
    from .modeling_modernbert_nli import ModernBertNliModel
    from .pipeline_modernbert_nli import NliAbstentionPipeline

logger = logging.get_logger(__name__)

READING = 32  # pairs in a batch
_OTHER = ("non-entailment", "not-entailment")

FEWEST = 20  # pairs
FOLDS = 4
STRENGTHS = (1.0, 0.75, 0.5, 0.25)  # of what was learnt, 0 being the start
WITHOUT_SAMPLE = 0.25  # the greatest, where nothing shows what it costs
MOST_LOST = 0.01  # of the accuracy on what the heads had learnt from
EPOCHS, BATCH, RATE = 12, 32, 1e-3
REPLAY = 6.0  # weight of the start's judgements of that sample

_PARTS = ("nli_hidden", "nli_output", "abstention_head")


def adapt(
    pipe: "NliAbstentionPipeline",
    pairs: Iterable[Any],
    labels: Iterable[Any],
    target_risk: float = 0.1,
    seed: int = 0,
) -> "NliAbstentionPipeline":
    """See `NliAbstentionPipeline.adapt`."""
    check_risk(target_risk)
    texts = [as_pair(item, row) for row, item in enumerate(items_of(pairs, "a list of pairs"))]
    named = list(items_of(labels, "a list of labels"))
    if len(texts) != len(named):
        raise ValueError(f"{len(texts)} pairs and {len(named)} labels do not match.")
    classes = classes_of(named, pipe.model.config.label2id)
    own = LabelledPairs(summaries_of(pipe, texts), classes, [premise for premise, _ in texts])
    found = adapted(pipe.model, own, pipe.model.replay_sample, target_risk, seed)
    (logger.info if found.report["strength"] else logger.warning)(found.report["message"])
    return around(pipe, found.model)


def around(pipe: "NliAbstentionPipeline", model: "ModernBertNliModel") -> "NliAbstentionPipeline":
    """A pipeline like another around a model, but for a threshold, which is not for its heads."""
    return type(pipe)(
        model=model,
        tokenizer=pipe.tokenizer,
        device=pipe.device,
        batch_size=pipe.batch_size,
        encoding=pipe.encoding,
    )


def check_risk(target_risk: Any) -> None:
    """Raise a ValueError unless it is a share."""
    share = isinstance(target_risk, int | float) and not isinstance(target_risk, bool)
    if not share or not 0 < target_risk < 1:
        raise ValueError(f"`target_risk` is a share of wrong answers, such as 0.1, got {target_risk!r}.")


@dataclass
class LabelledPairs:
    """Labelled pairs as the heads summarise them.

    Args:
        summaries (`dict[str, torch.Tensor]`): By encoding, (pairs, size).
        labels (`torch.LongTensor` of shape `(pairs,)`): Classes; `num_labels` for "any but entailment".
        premises (`Sequence[str]`): What pairs are kept together by.
    """

    summaries: dict[str, torch.Tensor]
    labels: torch.Tensor
    premises: Sequence[str]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class Adaptation:
    """Heads, and what is known of them.

    Args:
        model (`ModernBertNliModel`): Beside the same encoder as the start, which is as it was.
        report (`dict`): What `adapt` says; also in `model.config.adaptation`.
    """

    model: "ModernBertNliModel"
    report: dict[str, Any]


def adapted(
    model: "ModernBertNliModel",
    pairs: LabelledPairs,
    sample: ReplaySample | None,
    target_risk: float,
    seed: int = 0,
) -> Adaptation:
    """New heads for these pairs, chosen and calibrated by cross-validation.

    Args:
        model (`ModernBertNliModel`): The start; it is not changed.
        pairs (`LabelledPairs`): As its heads summarise them.
        sample (`ReplaySample`, *optional*): What the start learnt from, a sample of it.
        target_risk (`float`): Share of wrong answers that the threshold is to keep to.
        seed (`int`): Of the folds, and of the order of pairs in training.

    Raises:
        ValueError: too few pairs.
    """
    if len(pairs) < FEWEST:
        raise ValueError(f"{len(pairs)} labelled pairs are too few to learn from: give {FEWEST} or more.")
    with torch.inference_mode(False), torch.enable_grad():
        start = _heads_of(model)
        crossed = _cross_validate(start, pairs, sample, seed)
        strength = crossed.choose(sample is not None)
        heads = start
        if strength:
            heads = _between(start, _learnt(start, pairs, sample, seed), strength)
    result = beside(model, heads)
    guarantees = _calibrate(result, crossed, strength, target_risk, seed)
    report = crossed.report(strength) | guarantees
    report["message"] = message(report)
    result.config.adaptation = report
    return Adaptation(result, report)


def message(report: dict[str, Any]) -> str:
    """What became of it, in sentences."""
    count, mean = report["pairs"], {key: _mean(report[key]) for key in ("before", "after")}
    if report["strength"]:
        text = (
            f"Adapted to {count:,} pairs: of those that the heads had not seen, {mean['after']:.1%} are told "
            f"right in cross-validation, before {mean['before']:.1%}."
        )
    else:
        text = (
            f"The heads are kept as they were: adapting them to these {count:,} pairs gained nothing beyond "
            f"noise in cross-validation; {mean['before']:.1%} are told right."
        )
    if report["strength"] and report["replay"] is None:
        text += (
            " What that costs on other text is not known, because the checkpoint has no sample of what it "
            "learnt from: little was changed."
        )
    elif report["strength"]:
        replay = {key: _mean(report["replay"][key]) for key in ("before", "after")}
        text += f" On text like that of training, {replay['after']:.1%}, before {replay['before']:.1%}."
    risk, more = f"{report['target_risk']:.0%}", report["more_pairs"]
    if more == 0:
        text += f" A risk of {risk} is guaranteed."
    elif more is None:
        text += f" A risk of {risk} cannot be guaranteed: no threshold has clearly fewer errors here."
    else:
        text += f" A risk of {risk} cannot be guaranteed yet: about {more:,} more pairs would do."
    return text


def _mean(by_encoding: dict[str, float]) -> float:
    return sum(by_encoding.values()) / len(by_encoding)


# Learning ---------------------------------------------------------------------------------------------------


def _heads_of(model: "ModernBertNliModel") -> Any:
    """A copy of the heads, on the CPU and without the encoder, which no summarised pair needs."""
    own = copy.copy(model)
    own._modules = {**dict.fromkeys(model._modules), **{name: _copied(model, name) for name in _PARTS}}
    return own


def _copied(model: "ModernBertNliModel", name: str) -> torch.nn.Module:
    return copy.deepcopy(model._modules[name]).eval().cpu()


def beside(model: "ModernBertNliModel", heads: "ModernBertNliModel") -> Any:
    """A model with these heads, and a configuration of its own, on the very encoder of another."""
    own = copy.copy(model)
    device = model.heads_device
    own._modules = {**model._modules, **{name: _copied(heads, name).to(device) for name in _PARTS}}
    own.config = copy.deepcopy(model.config)
    own.config.encoder_config = model.config.encoder_config
    own.origin = model.origin  # with access tokens
    return own


def conclude(model: "ModernBertNliModel", summaries: torch.Tensor) -> Any:
    """[`ModernBertNliOutput`] of summarised pairs."""
    return model.conclude(model.nli_hidden.conclude(summaries))


def _trained(model: "ModernBertNliModel") -> list[torch.nn.Parameter]:
    """Not the abstention head's: what it knows of errors it has from thousands of pairs."""
    parts = [*model.nli_hidden.concluding, model.nli_output]
    return [parameter for part in parts for parameter in part.parameters()]


def _learnt(
    start: Any,
    pairs: LabelledPairs,
    sample: ReplaySample | None,
    seed: int,
    own: torch.Tensor | None = None,
    fold: int | None = None,
) -> Any:
    """Heads that were trained on some of the pairs (by default all) and all of the sample but a fold."""
    heads = _heads_of(start)
    parameters = _trained(heads)
    for parameter in parameters:
        parameter.requires_grad_(True)
    entailment = heads.config.label2id["entailment"]
    rows = torch.arange(len(pairs)) if own is None else own
    replayed = _replayed(start, sample, fold)
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0)
    steps = EPOCHS * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.06)
    for _ in range(EPOCHS):
        for batch in rows[torch.randperm(len(rows), generator=draw)].split(BATCH):
            losses = []
            for summaries in pairs.summaries.values():
                losses.append(label_loss(_logits(heads, summaries[batch]), pairs.labels[batch], entailment))
            for summaries, before in replayed:
                some = torch.randint(len(before), (BATCH,), generator=draw)
                log_probs = _logits(heads, summaries[some]).log_softmax(dim=-1)
                losses.append(REPLAY * -(before[some] * log_probs).sum(dim=-1).mean())
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            optimizer.step()
            schedule.step()
    for parameter in parameters:
        parameter.requires_grad_(False)
    return heads


def _logits(heads: "ModernBertNliModel", summaries: torch.Tensor) -> torch.Tensor:
    return heads.nli_output(heads.nli_hidden.conclude(summaries))


@torch.no_grad()
def _replayed(
    start: Any, sample: ReplaySample | None, fold: int | None
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """By encoding, summaries of the sample but a fold, and what the start makes of them."""
    found = []
    for encoding, summaries in sample.summaries.items() if sample is not None else ():
        kept = _fold_of_sample(sample, encoding) != (-1 if fold is None else fold)
        found.append((summaries[kept], _logits(start, summaries[kept]).softmax(dim=-1)))
    return found


@torch.no_grad()
def _between(start: Any, end: Any, strength: float) -> Any:
    heads = _heads_of(start)
    for here, first, last in zip(_trained(heads), _trained(start), _trained(end), strict=True):
        here.copy_(first + strength * (last - first))
    return heads


# Cross-validation -------------------------------------------------------------------------------------------


@dataclass
class _Crossed:
    """By strength and encoding, what heads say of pairs (and of the replay sample) that they had not seen."""

    pairs: LabelledPairs
    entailment: int
    said: dict[float, dict[str, dict[str, torch.Tensor]]]
    replayed: dict[float, dict[str, torch.Tensor]]  # which are told right

    def right(self, strength: float) -> dict[str, torch.Tensor]:
        """By encoding, mask of the pairs that are told right."""
        return {
            encoding: ~wrong(said["logits"], self.pairs.labels, self.entailment)
            for encoding, said in self.said[strength].items()
        }

    def losses(self, strength: float) -> torch.Tensor:
        """Negative log-likelihood of each pair, mean over the encodings, (pairs,)."""
        each = [
            label_loss(said["logits"], self.pairs.labels, self.entailment, "none")
            for said in self.said[strength].values()
        ]
        return torch.stack(each).mean(dim=0)

    def choose(self, has_sample: bool) -> float:
        """The best strength among those that pay and cost little; 0 where there is none."""
        best, least = 0.0, self.losses(0.0)
        before, right = least, torch.stack(list(self.right(0.0).values())).float().mean()
        for strength in STRENGTHS:
            if self._cost(strength) > MOST_LOST if has_sample else strength > WITHOUT_SAMPLE:
                continue
            here = self.losses(strength)
            gain = before - here
            noise = gain.std() / len(gain) ** 0.5
            better = torch.stack(list(self.right(strength).values())).float().mean() > right
            if gain.mean() > noise and better and here.mean() < least.mean():
                best, least = strength, here
        return best

    def _cost(self, strength: float) -> float:
        """Share of the sample that is no longer told right, less what now is: mean over the encodings."""
        lost = [
            (self.replayed[0.0][encoding].float() - after.float()).mean()
            for encoding, after in self.replayed[strength].items()
        ]
        return float(sum(lost) / len(lost))

    def report(self, strength: float) -> dict[str, Any]:
        def shares(masks: dict[str, torch.Tensor]) -> dict[str, float]:
            return {encoding: round(mask.float().mean().item(), 4) for encoding, mask in masks.items()}

        replay = None
        if self.replayed.get(0.0):
            replay = {"before": shares(self.replayed[0.0]), "after": shares(self.replayed[strength])}
        return {
            "pairs": len(self.pairs),
            "strength": strength,
            "before": shares(self.right(0.0)),
            "after": shares(self.right(strength)),
            "replay": replay,
        }


def wrong(logits: torch.Tensor, labels: torch.Tensor, entailment: int) -> torch.Tensor:
    """Mask of the wrong labels, (pairs,); where a label says "any but entailment", "entailment" is wrong."""
    answers = logits.argmax(dim=-1)
    return torch.where(labels == logits.shape[-1], answers == entailment, answers != labels)


def _cross_validate(start: Any, pairs: LabelledPairs, sample: ReplaySample | None, seed: int) -> _Crossed:
    folds = _folds(pairs.premises, seed)
    entailment = start.config.label2id["entailment"]
    said: dict[float, dict[str, dict[str, torch.Tensor]]] = {}
    replayed: dict[float, dict[str, torch.Tensor]] = {0.0: {}, **{strength: {} for strength in STRENGTHS}}
    for fold in range(FOLDS):
        end = _learnt(start, pairs, sample, seed, torch.nonzero(folds != fold)[:, 0], fold)
        for strength in (0.0, *STRENGTHS):
            heads = _between(start, end, strength)
            for encoding, summaries in pairs.summaries.items():
                _note(said.setdefault(strength, {}).setdefault(encoding, {}), heads, summaries, folds == fold)
            if sample is None:
                continue
            for encoding, summaries in sample.summaries.items():
                here, labels = _fold_of_sample(sample, encoding) == fold, sample.labels[encoding]
                with torch.no_grad():
                    logits = conclude(heads, summaries[here]).logits
                right = replayed[strength].setdefault(encoding, torch.zeros(len(labels), dtype=torch.bool))
                right[here] = ~wrong(logits, labels[here], entailment)
    return _Crossed(pairs, entailment, said, replayed)


@torch.no_grad()
def _note(
    said: dict[str, torch.Tensor], heads: "ModernBertNliModel", summaries: torch.Tensor, here: torch.Tensor
) -> None:
    """Put what heads say of some pairs beside what others say of the rest."""
    output = conclude(heads, summaries[here])
    for name in ("logits", "uncertainty"):
        values = output[name]
        said.setdefault(name, values.new_zeros(len(here), *values.shape[1:]))[here] = values


def _folds(premises: Sequence[str], seed: int) -> torch.Tensor:
    """A fold for each pair, (pairs,): one for all of a premise, unless there are hardly any premises."""
    groups: dict[Any, list[int]] = {}
    for row, premise in enumerate(premises):
        groups.setdefault(premise, []).append(row)
    if len(groups) < FOLDS:
        groups = {row: [row] for row in range(len(premises))}
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist()
    rows = sorted((list(groups.values())[place] for place in order), key=len, reverse=True)
    folds, sizes = torch.zeros(len(premises), dtype=torch.long), [0] * FOLDS
    for group in rows:
        smallest = sizes.index(min(sizes))
        folds[group] = smallest
        sizes[smallest] += len(group)
    return folds


def _fold_of_sample(sample: Any, encoding: str) -> torch.Tensor:
    return torch.arange(len(sample.labels[encoding])) % FOLDS


# The guarantee ----------------------------------------------------------------------------------------------


def _calibrate(
    model: "ModernBertNliModel", crossed: _Crossed, strength: float, target_risk: float, seed: int
) -> dict[str, Any]:
    """Give the heads threshold and guarantee; what the report says of them."""
    names, labels = model.config.id2label, crossed.pairs.labels
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    calibration, found = {}, {}
    for encoding, said in crossed.said[strength].items():
        errors = wrong(said["logits"], labels, crossed.entailment)
        found[encoding] = errors, said["uncertainty"]
        if len(labels) < MIN_PAIRS:
            continue
        table = guarantee_table(*found[encoding], order)
        answers = [names[number] for number in said["logits"].argmax(dim=-1).tolist()]
        calibration[encoding] = entry_of(said["uncertainty"], answers, ["pairs of one's own"], DELTA, table)
    errors, uncertainty = found[model.config.encoding]
    rows = calibration.get(model.config.encoding, {"table": []})["table"]
    kept = [row for row in rows if row["threshold"] is not None and row["target_risk"] <= target_risk + 1e-9]
    more: int | None = 0
    if kept:
        threshold = kept[-1]["threshold"]
    else:
        threshold = estimated_threshold(errors, uncertainty, target_risk)
        needed = pairs_needed(errors, uncertainty, target_risk)
        # Never none: as many as there are have just failed.
        more = None if needed is None else max(needed - len(labels), MIN_PAIRS - len(labels), 10)
    guaranteed = any(row["threshold"] is not None for entry in calibration.values() for row in entry["table"])
    model.set_calibration(calibration if guaranteed else None, threshold)
    two_way = bool((labels == len(names)).any())
    return {"target_risk": target_risk, "threshold": threshold, "more_pairs": more, "two_way": two_way}


def estimated_threshold(errors: torch.Tensor, uncertainty: torch.Tensor, target_risk: float) -> float:
    """The greatest threshold at which the accepted of *these* answers err at most so often: no guarantee."""
    ordered, order = uncertainty.double().sort()
    risks = errors[order].double().cumsum(dim=0) / torch.arange(1, len(errors) + 1)
    allowed = torch.nonzero(risks <= target_risk)[:, 0]
    if not len(allowed):
        return 0.0
    last = int(allowed[-1])
    return 1.0 if last == len(errors) - 1 else float((ordered[last] + ordered[last + 1]) / 2)


def classes_of(labels: Sequence[Any], label2id: dict[str, int]) -> torch.Tensor:
    """Labels to classes, (pairs,): `len(label2id)` is "any but entailment".

    Args:
        labels (`Sequence`): Names of labels, their numbers, "non-entailment", or true and false for
            "entailed" and "not entailed", as Python's objects or as scalars of NumPy, torch or pyarrow.
        label2id (`dict[str, int]`): Of the configuration.

    Raises:
        ValueError: a label that is none of these; its position is named.
    """
    names = sorted(label2id, key=label2id.__getitem__)
    known: dict[Any, int] = {name.lower().replace("_", "-"): number for name, number in label2id.items()}
    known.update(dict.fromkeys(_OTHER, len(label2id)))
    classes = []
    for row, label in enumerate(map(plain, labels)):
        if isinstance(label, bool):
            classes.append(label2id["entailment"] if label else len(label2id))
        elif (
            isinstance(label, str)
            and (key := label.strip().lower().replace("_", "-").replace(" ", "-")) in known
        ):
            classes.append(known[key])
        elif isinstance(label, int | float) and label in range(len(label2id)):
            classes.append(int(label))
        else:
            raise ValueError(
                f"label {row}: {label!r} is none of {', '.join(names)}, their numbers, {_OTHER[0]}, true "
                "(entailed) and false (not entailed)."
            )
    return torch.tensor(classes)


def summaries_of(
    pipe: "NliAbstentionPipeline", pairs: Sequence[tuple[str, str]], batch_size: int = READING
) -> dict[str, torch.Tensor]:
    """LabelledPairs as the heads of a pipeline summarise them, in every encoding that they know.

    Raises:
        PairError: something that is no pair of texts; its position is named.
    """
    return {
        encoding: _summaries_in(pipe, pairs, encoding, batch_size)
        for encoding in pipe.model.config.encoder_layers
    }


def _summaries_in(
    pipe: "NliAbstentionPipeline", pairs: Sequence[tuple[str, str]], encoding: str, batch_size: int
) -> torch.Tensor:
    tokens = pipe.preprocess(list(pairs), encoding=encoding)
    tokens.pop("truncated")
    lengths = torch.tensor([len(ids) for ids in tokens["input_ids"]])
    order = lengths.argsort(stable=True)
    parts: list[torch.Tensor] = []
    bar = logging.tqdm(
        total=len(order), desc=f"reading, {encoding}", unit="pair", leave=False, disable=len(order) < 500
    )
    with bar:
        for rows in order.split(batch_size):
            batch = {key: [values[row] for row in rows.tolist()] for key, values in tokens.items()}
            padded = pipe.tokenizer.pad(batch, return_tensors="pt").to(pipe.model.device)
            parts.append(pipe.model.summaries(**padded, encoding=encoding).float().cpu())
            bar.update(len(rows))
    return torch.cat(parts)[order.argsort()]
