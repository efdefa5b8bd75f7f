"""What a pipeline learns from labelled examples of its user's: `adapt` and `adapt_routes`.

mine = nli.adapt(pairs, labels)  # a new pipeline; nli stays what it is
print(mine.model.config.adaptation["message"])
mine.save_pretrained("mine")
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers.utils import logging

from .adaptation import Pairs, adapted, beside
from .fitting import LabelledTexts, adapted_routing, know
from .replay import Summaries
from .routing import UNFITTED, as_categories
from .tokenization import items_of, plain

logger = logging.get_logger(__name__)

BATCH = 32
_OTHER = ("non-entailment", "not-entailment")


class LearningMixin:
    """The part of `NliAbstentionPipeline` that learns."""

    def adapt(
        self: Any, pairs: Iterable[Any], labels: Iterable[Any], target_risk: float = 0.1, seed: int = 0
    ) -> Any:
        """A pipeline for a kind of text, from some 50 to 1,000 labelled pairs of it; this one stays as it is.

        Heads of all encodings are adapted, and calibrated for these pairs: what the checkpoint promised is no
        longer promised. Where adapting does not pay, beyond noise and on pairs that it had not seen, the new
        pipeline has the heads of this one, and says so. How: `adaptation.py`.

        Args:
            pairs (`Iterable`): Pairs, as a call takes them. Several of one premise are no problem.
            labels (`Iterable`): A label for each: a name; "non-entailment"; or, where nobody said more, true
                for "is entailed" (supported) and false for "is not".
            target_risk (`float`, *optional*, defaults to 0.1): Share of wrong answers among those given that
                the threshold of the new pipeline keeps to: promised, if there are pairs enough.
            seed (`int`, *optional*, defaults to 0): Of what is drawn at random.

        Returns:
            `NliAbstentionPipeline`. `model.config.adaptation` holds what is known of it: `message`, in
            sentences; `pairs`; `strength`, 0 where the heads are those of this pipeline, up to 1; accuracies
            by encoding `before` and `after`, in cross-validation, and the same at `home`, on a sample of what
            the heads had learnt from, if the checkpoint has one; `target_risk`, `threshold`, and
            `more_pairs`, roughly how many more it takes to promise that risk: 0 where it is promised, `None`
            where nothing in these pairs suggests that it could be.

        Raises:
            ValueError: fewer than 20 pairs, something that is not a pair of texts or no label (its position
                is named), or not as many of the one as of the other.
        """
        self._check_risk(target_risk)
        texts, named = self._as_pairs(pairs), list(items_of(labels, "a list of labels"))
        if len(texts) != len(named):
            raise ValueError(f"{len(texts)} pairs and {len(named)} labels do not match.")
        classes = classes_of(named, self.model.config.label2id)
        own = Pairs(summaries_of(self, texts), classes, [premise for premise, _ in texts])
        found = adapted(self.model, own, self.model.home, target_risk, seed)
        (logger.info if found.report["strength"] else logger.warning)(found.report["message"])
        return self._around(found.model)

    def adapt_routes(
        self: Any,
        texts: Iterable[str],
        labels: Iterable[Any],
        categories: Any,
        target_risk: float = 0.1,
        seed: int = 0,
    ) -> Any:
        """A pipeline whose `route` is fitted to labelled texts, and calibrated for them and their categories.

        How much similarity and entailment count, and when nothing fits, is learnt for this pipeline's
        encoding; its judgements of pairs stay what they are. See `fitting.py`.

        Args:
            texts (`Iterable[str]`): Texts such as those that are to be routed.
            labels (`Iterable`): The category of each; `None`, or "none" or "oos" where no category is called
                so, means that none fits.
            categories (`Mapping[str, str]` or `Sequence[str]`): As for `route`.
            target_risk (`float`, *optional*, defaults to 0.1): Share of wrong routes among those given, which
                the threshold keeps to, if it can be promised.
            seed (`int`, *optional*, defaults to 0): Of what is drawn at random.

        Returns:
            `NliAbstentionPipeline`: `model.config.adaptation["routes"]` says what is known of it.

        Raises:
            ValueError: too few texts or categories, not as many texts as labels, or a label that is no
                category (its position is named).
        """
        self._check_risk(target_risk)
        texts = list(items_of(texts, "a list of texts"))
        labels = list(items_of(labels, "a list of labels"))
        if len(texts) != len(labels):
            raise ValueError(f"{len(texts)} texts and {len(labels)} labels do not match.")
        known = as_categories(categories)
        hypotheses = dict(zip(known.names, known.hypotheses, strict=True))
        labelled = LabelledTexts("texts of one's own", texts, labels, hypotheses)
        routing, encoding = self.model.config.routing or {}, self.encoding
        before = routing.get(encoding, UNFITTED)
        entry, report = adapted_routing(
            know(self, labelled), before, known, self.model.heads_digest(), target_risk, seed
        )
        model = beside(self.model, self.model)
        model.config.routing = {**routing, encoding: entry}
        model.config.adaptation = {**(model.config.adaptation or {}), "routes": report}
        return self._around(model)

    def _around(self: Any, model: Any) -> Any:
        """A pipeline like this one around another model, but for a threshold, which is not for its heads."""
        encoding = (
            {"encoding": self._forward_params["encoding"]} if "encoding" in self._forward_params else {}
        )
        return type(self)(
            model=model, tokenizer=self.tokenizer, device=self.device, batch_size=self._batch_size, **encoding
        )

    @staticmethod
    def _check_risk(target_risk: Any) -> None:
        share = isinstance(target_risk, int | float) and not isinstance(target_risk, bool)
        if not share or not 0 < target_risk < 1:
            raise ValueError(f"`target_risk` is a share of wrong answers, such as 0.1, got {target_risk!r}.")


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
    pipe: Any, pairs: Sequence[tuple[str, str]], batch_size: int = BATCH
) -> dict[str, Summaries]:
    """Pairs as the heads of a pipeline summarise them, in every encoding that they know.

    Raises:
        PairError: something that is no pair of texts; its position is named.
    """
    return {
        encoding: _summaries_in(pipe, pairs, encoding, batch_size)
        for encoding in pipe.model.config.encoder_layers
    }


def _summaries_in(pipe: Any, pairs: Sequence[tuple[str, str]], encoding: str, batch_size: int) -> Summaries:
    tokens = pipe.preprocess(list(pairs), encoding=encoding)
    tokens.pop("truncated")
    lengths = torch.tensor([len(ids) for ids in tokens["input_ids"]])
    order = lengths.argsort(stable=True)
    parts: dict[str, list[torch.Tensor]] = {}
    bar = logging.tqdm(
        total=len(order), desc=f"reading, {encoding}", unit="pair", leave=False, disable=len(order) < 500
    )
    with bar:
        for rows in order.split(batch_size):
            batch = {key: [values[row] for row in rows.tolist()] for key, values in tokens.items()}
            padded = pipe.tokenizer.pad(batch, return_tensors="pt").to(pipe.model.device)
            for name, values in pipe.model.summaries(**padded, encoding=encoding).items():
                parts.setdefault(name, []).append(values.float().cpu())
            bar.update(len(rows))
    place = order.argsort()
    return {name: torch.cat(values)[place] for name, values in parts.items()}
