"""Text pairs to decisions: label, confidence and abstain, in batches of similar length.

nli = pipeline(model=checkpoint, trust_remote_code=True)
nli("A man is playing guitar on stage.", "A person is making music.")
nli.route("Where is my parcel?", {"delivery": "This is about a delivery.", "music": "This is about music."})
nli.validate_fact("The bridge opened in 1932.", "The bridge is older than 1950.")
nli(pairs, target_risk=0.05)  # of a calibrated checkpoint: at most 5 % of the answers given are wrong
nli(pairs, target_risk=0.05, like="calibration")  # of pairs that are like those it was calibrated on
mine = nli.adapt(labelled_pairs, labels)  # a new pipeline, for one's own kind of text
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from transformers import Pipeline
from transformers.utils import logging

from .guards import UNCERTAIN, UNREADABLE, overruled
from .kept_texts import KeptTexts
from .separate import Ids, judge_texts
from .tokenization import (
    PAIRS,
    USAGE,
    PairError,
    as_pair,
    check_tokenizer,
    encode_pairs,
    is_empty,
    items_of,
    max_pair_length,
    split_rows,
)

if TYPE_CHECKING:
    from .modeling_modernbert_nli import ModernBertNliModel

logger = logging.get_logger(__name__)

BATCH_SIZE = 32
TOKENS_AT_ONCE = 2**16  # of texts that are encoded alone, and then judged
BATCHES_PER_CHUNK = 64  # at most, sorted by length together; the first chunks are smaller, to answer soon


class NliAbstentionPipeline(Pipeline):
    """Decides whether a hypothesis follows from a premise, or declines to.

    Args (beside those of every pipeline):
        batch_size (`int`, *optional*, defaults to 32): Pairs in a batch.
        threshold (`float`, *optional*): Abstain from this uncertainty upwards; defaults to the checkpoint's.
        target_risk (`float`, *optional*): Instead of it, the share of wrong answers to be allowed among those
            given, which the calibration of the checkpoint turns into a threshold: see `threshold_for`.
        like (`str`, *optional*): What the pairs are like that the risk is guaranteed for: see there too.
        encoding (`"joint"` or `"separate"`, *optional*): How pairs are encoded; defaults to the checkpoint's.
    """

    model: "ModernBertNliModel"
    modelcard = None  # transformers 5.0 reads it on saving, but sets it no more
    _load_tokenizer = None  # if there is one beside the heads: the model knows where else to look
    _load_processor = _load_image_processor = _load_video_processor = _load_feature_extractor = False

    def __new__(cls, model: Any = None, *args: Any, **kwargs: Any) -> Any:
        """A pipeline of the model's own code, which an installed package and a checkpoint may differ in."""
        opened = getattr(type(model), "as_pipeline", None)
        if opened is None or opened.__module__.rpartition(".")[0] == __name__.rpartition(".")[0]:
            return super().__new__(cls)
        if cls is not NliAbstentionPipeline:
            raise ValueError(
                f"{cls.__qualname__} builds on the code in {__name__}, its model on that in "
                f"{opened.__module__}: derive it from the pipeline of the model's code."
            )
        logger.info(f"The pipeline is that of its model's code, in {opened.__module__}, not {__name__}.")
        return model.as_pipeline(*args, **kwargs)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.tokenizer: Any
        self.texts = KeptTexts()
        if self.tokenizer is None or is_empty(self.tokenizer):
            self.tokenizer = self.model.tokenizer
        check_tokenizer(self.tokenizer, self.model.config)
        # `pipeline(model_kwargs=...)` gives these to the tokenizer too, which would save them.
        for key in ("encoder", "backend", "base_model_name_or_path", "base_model_revision"):
            self.tokenizer.init_kwargs.pop(key, None)
        self.model.use_tokenizer(self.tokenizer)  # what `model.encode` would otherwise load again
        if "entailment" not in self.model.config.label2id:
            raise ValueError(
                f"The labels must have 'entailment' among them, got {self.model.config.label2id}."
            )
        self.own_threshold()  # a risk that cannot be guaranteed is told now
        if not self._postprocess_params and (problem := self.model.stale_calibration()):
            logger.warning_once(
                f"{problem} Until then it abstains from an uncertainty of {self.threshold:.3g} upwards, as "
                "before, which means nothing of the risk. (Said once.)"
            )

    def __call__(self, inputs: Any, hypothesis: Any = None, **kwargs: Any) -> Any:
        """Judge one pair, or many.

        Args:
            inputs: A premise (`str`), with `hypothesis`; a pair, as a tuple or as a dict with `premise` and
                `hypothesis` (or `text` and `text_pair`); or a list, other iterable or map-style dataset of
                pairs.
            hypothesis (`str`, *optional*): Where `inputs` is a premise.
            batch_size, threshold, target_risk, like, encoding (*optional*): For this call.

        Returns:
            `dict` for one pair: `label`; `confidence`, its probability; `abstain`; `uncertainty`, 0 to 1;
            `probs`, by label; `reason`, why it abstains, one of `guards.REASONS`, else `None`; `rule`,
            "verbatim", where the hypothesis is a sentence of the premise, which needs no heads; and
            `truncated`, true, where the end of the premise was beyond the window and not read (`check` reads
            all of it). For a list, a list in the same order; for any other iterable, a generator.

        Raises:
            ValueError: something that is not a pair of texts; its position is named. Or a `target_risk` that
                cannot be guaranteed.
        """
        batch_size = kwargs.pop("batch_size", None) or self.batch_size
        kwargs.pop("num_workers", None)  # tokenising in threads is the tokenizer's own work
        stored = (self._preprocess_params, self._forward_params, self._postprocess_params)
        given = self._sanitize_parameters(**kwargs)
        preprocess, forward, _ = ({**before, **now} for before, now in zip(stored, given, strict=True))
        kwargs["encoding"] = forward.get("encoding", self.model.config.encoding)
        steps = (preprocess, forward, {"threshold": self.limit(**kwargs)})

        if isinstance(inputs, str):
            if hypothesis is None:
                raise ValueError(f"One text alone cannot be judged. {USAGE}.")
            inputs = (inputs, hypothesis)
        elif hypothesis is not None:
            raise ValueError(
                f"`hypothesis` goes with a single premise, not with {type(inputs).__name__}. {USAGE}."
            )
        if isinstance(inputs, Mapping | tuple):
            return next(self._stream([inputs], batch_size, *steps))
        results = self._stream(items_of(inputs, PAIRS), batch_size, *steps)
        return list(results) if isinstance(inputs, list) else results

    def route(
        self,
        text: Any,
        categories: Any,
        threshold: float | None = None,
        target_risk: float | None = None,
        several: bool = False,
        hypothesis_template: str = "This is about {}.",
        examples: Mapping[str, Sequence[str]] | None = None,
    ) -> Any:
        """Choose the category that fits a text best, or decline: too close to call, or nothing fits.

        With separate encoding each text is encoded once, and what a category is known by once for all calls.
        How scores, probabilities and reasons come about: `routing.py`.

        Args:
            text (`str`, `list[str]` or `TokenStates`): A text, texts, or what `model.encode` made of them.
            categories (`Mapping[str, str]` or `Sequence[str]`): A hypothesis by category, such as "This is
                about a delivery.", or names alone.
            threshold (`float`, *optional*): Decline from this uncertainty of the route upwards; defaults to
                the checkpoint's for routes. That of the pipeline is for pairs.
            target_risk (`float`, *optional*): Instead of it, the share of wrong routes to be allowed, of a
                checkpoint whose routes were calibrated for these categories by `calibrate.py --routes`.
            several (`bool`, *optional*, defaults to `False`): Any number of categories may fit, each by
                itself; then `categories` lists all that do.
            hypothesis_template (`str`, *optional*, defaults to `"This is about {}."`): For names alone.
            examples (`Mapping[str, Sequence[str]]`, *optional*): Texts that belong to a category; a few of
                them sharpen its similarity.

        Returns:
            `dict`: `category` and its `confidence`, both `None` where it declines; `uncertainty`, 0 to 1, of
            the route; `reason`, why it declines; `ranking`, pairs of category and probability, the best
            first, which sum up to the probability that any fits (with `several` each stands by itself);
            `scores`, by category, what the call itself returns, for the most similar where there are more
            than 32. A list of them for more than a text.

        Raises:
            ValueError: categories or examples that cannot be meant, or a risk that cannot be guaranteed.
        """
        from .routing import route

        return route(self, text, categories, threshold, target_risk, several, hypothesis_template, examples)

    def check(
        self,
        answer: str,
        sources: Any,
        threshold: float | None = None,
        texts: Sequence[str] | None = None,
        splitter: Any = None,
        max_characters: int | None = None,
        between: Callable[[], None] | None = None,
    ) -> dict[str, Any]:
        """Check an answer against whole documents: each of its sentences against every passage of them.

        Args:
            answer (`str`): A text of one sentence or more.
            sources (`str`, `Mapping[str, str]`, `Iterable[str]`, `TokenStates` or what `read` returned):
                A text, texts by name or in a row (a generator too), however long.
            threshold (`float`, *optional*): Abstain from this uncertainty upwards.
            texts (`Sequence[str]`, *optional*): Those of `TokenStates`, without which evidence has no place.
            splitter (`Callable`, *optional*): Text to sentences instead of our own rules, such as
                `pysbd.Segmenter(char_span=True).segment` or `lambda text: spacy_model(text).sents`.
            max_characters (`int`, *optional*): Read no more than so many of each source.
            between (`Callable`, *optional*): Called after every few pages; what it raises ends the check.

        Returns:
            `dict`, of JSON's types, for the answer as a whole:

            - `verdict`: "supported" (every claim is), "contradicted" (one is), "not supported" (one is not),
              "uncertain", or "no claim" (there is none; its numbers are `None`); `confidence`, that it is
              right; `abstain`; `uncertainty`, 0 to 1
            - `support`: the probability that the sources support it, whatever the verdict
            - `evidence`: the best passage for each sentence: `source` (name or number), `start` and `end`
              (characters there), `text`, `confidence` that it supports (contradicts) the sentence, and the
              heads' `probs` by label
            - `sentences`: `text`, `start`, `end`, `kind`, `claim` (what of it was judged; `None` where it is
              no claim, such as a greeting, and then so is the verdict), and all of the above for each, with
              up to three passages, the best first, and `unsupported`: spans (`start` and `end` in the answer,
              `text`) of words that no passage covers, for a claim that is contradicted or not supported
            - `read`: the share of the sources that was read, 1.0 unless the caller limits it; `sources`: that
              of each

        Raises:
            ValueError: there is no source; an answer without words, or a source without text.
        """
        from .documents import check_answer

        options = {"texts": texts, "splitter": splitter, "max_characters": max_characters, "between": between}
        return check_answer(self, answer, sources, threshold=self.own_threshold(threshold), **options)

    def read(self, sources: Any, splitter: Any = None) -> Any:
        """Read sources once, for any number of answers to `check`: their sentences and states are kept.

        Args:
            sources, splitter: As for `check`.
        """
        from .documents import read_sources

        return read_sources(self, sources, splitter)

    def validate_fact(
        self,
        source: Any,
        claim: str,
        threshold: float | None = None,
        target_risk: float | None = None,
        like: str | None = None,
        texts: Sequence[str] | None = None,
    ) -> Any:
        """Check a claim against its source, or against each of many: `check`, with the claim as one sentence.

        Args:
            source (`str`, `list[str]` or `TokenStates`): A text, texts, or what `model.encode` made of them.
            claim (`str`): What is to be checked.
            threshold (`float`, *optional*): Abstain from this uncertainty upwards.
            target_risk, like (*optional*): Instead of it: see `threshold_for`. It is guaranteed of judgements
                on pairs, not of the best of many passages.
            texts (`Sequence[str]`, *optional*): Those of `TokenStates`.

        Returns:
            `dict`: `supported`, `contradicted` and `uncertain` (abstained), at most one of them true: none
            is where the source says nothing about the claim; `confidence`, the probability of the verdict;
            `evidence`, the best passages, and `unsupported`, words, as `check` returns them; `read`, the
            share of the source that was read. A list of them for more than a source.
        """
        from .documents import validate_fact

        kept = "separate" if hasattr(source, "offsets") else None
        limit = self.own_threshold(threshold, target_risk, kept, like)
        return validate_fact(self, source, claim, limit, texts)

    def threshold_for(
        self, target_risk: float, encoding: str | None = None, like: str | None = None
    ) -> float:
        """The uncertainty from which to abstain so that at most a share of the answers given is wrong.

        Args:
            target_risk (`float`): That share, such as 0.1. It holds in the long run and with the probability
                that the checkpoint was calibrated for.
            encoding (`"joint"` or `"separate"`, *optional*): Defaults to this pipeline's.
            like (`str`, *optional*): What the pairs are like: `"calibration"` for pairs drawn as the
                calibration pairs were, or a group of these, such as `"snli"`. By default text of a kind never
                seen, where the checkpoint has a guarantee for that, else `"calibration"`.

        Raises:
            ValueError: the checkpoint is not calibrated, or for other heads than these, or its calibration
                does not guarantee such a risk.
        """
        from .calibration import guaranteed_threshold

        return guaranteed_threshold(self.model.calibration, encoding or self.encoding, target_risk, like)

    def drift(self, results: Iterable[Any], encoding: str | None = None) -> dict[str, Any]:
        """Whether results can be told from calibration's, which says nothing about the risk if they cannot.

        Args:
            results (`Iterable`): What this pipeline returned for some 50 pairs or more, or the pairs.
            encoding (`"joint"` or `"separate"`, *optional*): How they were or are to be encoded; defaults to
                this pipeline's.

        Returns:
            `dict`: `drifted`, true or `None`; `message`, a sentence that says what that means; and the
            figures behind it, see `calibration.py`.

        Raises:
            ValueError: these heads are not calibrated for this encoding, or there are no results.
        """
        from .drift import drift

        return drift(self, results, encoding or self.encoding)

    def adapt(
        self, pairs: Iterable[Any], labels: Iterable[Any], target_risk: float = 0.1, seed: int = 0
    ) -> Any:
        """A pipeline for a kind of text, from some 50 to 1,000 labelled pairs of it; this one stays as it is.

        Heads of all encodings are adapted, and calibrated for these pairs: what the checkpoint guaranteed is
        no longer guaranteed. Where adapting does not pay, beyond noise and on pairs that it had not seen, the
        new pipeline has the heads of this one, and says so. How: `adapting.py`.

        Args:
            pairs (`Iterable`): Pairs, as a call takes them. Several of one premise are no problem.
            labels (`Iterable`): A label for each: a name; "non-entailment"; or, where nobody said more, true
                for "is entailed" (supported) and false for "is not".
            target_risk (`float`, *optional*, defaults to 0.1): Share of wrong answers among those given that
                the threshold of the new pipeline keeps to: guaranteed, if there are pairs enough.
            seed (`int`, *optional*, defaults to 0): Of what is drawn at random.

        Returns:
            `NliAbstentionPipeline`. `model.config.adaptation` holds what is known of it: `message`, in
            sentences; `pairs`; `strength`, 0 where the heads are those of this pipeline, up to 1; accuracies
            by encoding `before` and `after`, in cross-validation, and the same as `replay`, on a sample of
            what the heads had learnt from, if the checkpoint has one; `target_risk`, `threshold`, and
            `more_pairs`, roughly how many more it takes to guarantee that risk: 0 where it is guaranteed,
            `None` where nothing in these pairs suggests that it could be.

        Raises:
            ValueError: fewer than 20 pairs, something that is not a pair of texts or no label (its position
                is named), or not as many of the one as of the other.
        """
        from .adapting import adapt

        return adapt(self, pairs, labels, target_risk, seed)

    def adapt_routes(
        self,
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
                the threshold keeps to, if it can be guaranteed.
            seed (`int`, *optional*, defaults to 0): Of what is drawn at random.

        Returns:
            `NliAbstentionPipeline`: `model.config.adaptation["routes"]` says what is known of it.

        Raises:
            ValueError: too few texts or categories, not as many texts as labels, or a label that is no
                category (its position is named).
        """
        from .fitting import adapt_routes

        return adapt_routes(self, texts, labels, categories, target_risk, seed)

    def judge_pairs(self, pairs: list[tuple[str, str]], encoding: str) -> list[dict[str, Any]]:
        """What the heads say of pairs, without what is known besides, for routes and the like."""
        how = {"encoding": encoding}
        limit = {"threshold": self.limit(encoding)}
        return list(self._stream(pairs, self.batch_size, how, how, limit, guarded=False))

    def _stream(
        self,
        items: Iterable[Any],
        batch_size: int,
        preprocess: dict,
        forward: dict,
        postprocess: dict,
        guarded: bool = True,
    ) -> Iterator[dict[str, Any]]:
        """Chunk by chunk: tokenise, sort by length, judge in batches, and give back in order.

        `guarded`: what can be known without heads stands above what they say.
        """
        # Nobody reads a list's first result before its last one, so nothing is gained by answering soon.
        size = batch_size * (BATCHES_PER_CHUNK if isinstance(items, list) else 1)
        items, done = iter(items), 0
        while True:
            pairs: list[Any] = []
            failure: Exception | None = None
            try:
                for item in islice(items, size):
                    pairs.append(as_pair(item, len(pairs)))
            except Exception as error:  # a bad item, or the caller's own generator: first what came before it
                failure = error
            try:
                tokens = self.preprocess(pairs, **preprocess)
            except PairError as error:
                failure, pairs = error, pairs[: error.row]
                tokens = self.preprocess(pairs, **preprocess)
            results = self._judge(tokens, batch_size, forward, postprocess)
            limit = postprocess["threshold"]
            for (premise, hypothesis), result in zip(pairs, results, strict=True):
                if guarded:
                    result = overruled(premise, hypothesis, result, limit, self.tokenizer, self.model.tells)
                yield result
            if isinstance(failure, PairError):
                raise PairError(done + failure.row, failure.reason) from None
            if failure is not None:
                raise failure
            if len(pairs) < size:
                return
            done, size = done + len(pairs), min(2 * size, batch_size * BATCHES_PER_CHUNK)

    def _judge(self, tokens: Any, batch_size: int, forward: dict, postprocess: dict) -> list[dict[str, Any]]:
        truncated = tokens.pop("truncated")
        order = sorted(range(len(tokens["input_ids"])), key=lambda row: len(tokens["input_ids"][row]))
        separate = forward.get("encoding", self.model.config.encoding) == "separate"
        outputs = (self._separate if separate else self._joint)(tokens, order, batch_size, forward)
        judged = (result for output in outputs for result in self.postprocess(output, **postprocess))
        results = dict(zip(order, judged, strict=True))
        for row, cut in enumerate(truncated):
            if cut:
                results[row]["truncated"] = True
        return [results[row] for row in range(len(order))]

    def _joint(self, tokens: Any, order: list[int], batch_size: int, forward: dict) -> Iterator[Any]:
        """Batch by batch, what the model says of pairs in one sequence."""
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = {key: [values[row] for row in rows] for key, values in tokens.items()}
            yield self.forward(self.tokenizer.pad(batch, return_tensors="pt"), **forward)

    def _separate(self, tokens: Any, order: list[int], batch_size: int, _forward: dict) -> Iterator[Any]:
        """Batch by batch, what the heads say of pairs of texts that were encoded alone.

        The texts of many batches are read together: those of one alone have all lengths, which costs padding.
        """
        rows = [tokens["input_ids"][row] for row in order]
        pairs = list(zip(*split_rows(rows, self.model.config.sep_token_id), strict=True))
        for some in _groups(pairs, batch_size):
            with self.device_placement(), torch.no_grad():
                known = self.texts.of(self.model).project(list(chain(*some)), 2 * batch_size)
                for start in range(0, len(some), batch_size):
                    batch = [(known[one], known[other]) for one, other in some[start : start + batch_size]]
                    yield {name: values.cpu() for name, values in judge_texts(self.model, batch).items()}

    def _sanitize_parameters(
        self,
        threshold: float | None = None,
        target_risk: float | None = None,
        encoding: str | None = None,
        like: str | None = None,
        **kwargs: Any,
    ) -> tuple[dict, dict, dict]:
        if kwargs:
            raise TypeError(
                f"Unknown arguments {sorted(kwargs)}: this pipeline takes threshold, target_risk, like, "
                "encoding and batch_size."
            )
        step = {} if encoding is None else {"encoding": encoding}
        if threshold is not None and target_risk is not None:
            raise ValueError("Give `threshold` or `target_risk`, not both: each says where to abstain.")
        guarantee = {} if like is None else {"like": like}
        if target_risk is not None:
            return step, step, {"threshold": None, "target_risk": target_risk, **guarantee}
        if threshold is None:
            return step, step, guarantee
        if guarantee:
            raise ValueError(
                "`like` says for which pairs a `target_risk` is guaranteed: no `threshold` needs it."
            )
        if isinstance(threshold, bool) or not isinstance(threshold, Real) or not 0 <= threshold <= 1:
            raise ValueError(f"`threshold` is an uncertainty between 0 and 1, got {threshold!r}.")
        return step, step, {"threshold": threshold, "target_risk": None, "like": None}

    def preprocess(self, pairs: list[tuple[str, str]], encoding: str | None = None, **kwargs: Any) -> Any:
        """Pairs to token ids, not padded; `truncated` says of each whether its premise lost its end."""
        window = max_pair_length(self.model.config.encoder_config, self.tokenizer)
        apart = (encoding or self.model.config.encoding) == "separate"
        truncated: list[int] = []
        tokens = encode_pairs(self.tokenizer, pairs, window, apart, truncated)
        cut = set(truncated)
        tokens["truncated"] = [row in cut for row in range(len(pairs))]
        return tokens

    def _forward(self, batch: Any, encoding: Any = None, **kwargs: Any) -> dict[str, torch.Tensor]:
        return dict(self.model(**batch, mode="judgement", encoding=encoding))

    def postprocess(
        self, outputs: Any, threshold: float | None = None, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """Logits of a batch to one decision for each pair."""
        return self.decide(outputs, threshold)

    def decide(self, judged: Mapping[str, torch.Tensor], threshold: float | None) -> list[dict[str, Any]]:
        """What is said of pairs by what `ModernBertNliOutput` has of them."""
        if threshold is None:
            threshold = self.threshold
        names = self.model.config.id2label
        doubts = judged["uncertainty"].tolist()
        told = judged.get("familiarity")
        unread = [False] * len(doubts) if told is None else self.model.unread(told).any(dim=-1).tolist()
        results = []
        chances = judged["logits"].softmax(dim=-1).tolist()
        for probs, doubt, strange in zip(chances, doubts, unread, strict=True):
            best = max(range(len(probs)), key=probs.__getitem__)
            results.append(
                {
                    "label": names[best],
                    "confidence": probs[best],
                    "abstain": doubt >= threshold,
                    "uncertainty": doubt,
                    "probs": {names[index]: value for index, value in enumerate(probs)},
                    "reason": UNREADABLE if strange else UNCERTAIN if doubt >= threshold else None,
                }
            )
        return results

    @property
    def threshold(self) -> float:
        """Uncertainty from which this pipeline abstains: its own, else the checkpoint's."""
        return self.limit()

    def limit(
        self,
        encoding: str | None = None,
        threshold: float | None = None,
        target_risk: float | None = None,
        like: str | None = None,
    ) -> float:
        """From which uncertainty to abstain: by the call, else by this pipeline, else by the checkpoint."""
        own = self.own_threshold(threshold, target_risk, encoding, like)
        return self.model.config.abstention_threshold if own is None else own

    def own_threshold(
        self,
        threshold: float | None = None,
        target_risk: float | None = None,
        encoding: str | None = None,
        like: str | None = None,
    ) -> float | None:
        """As `limit`; `None` where neither the call nor this pipeline says anything."""
        now = self._sanitize_parameters(threshold, target_risk, like=like)[2]
        chosen = {**self._postprocess_params, **now}
        risk, like = chosen.get("target_risk"), chosen.get("like")
        if risk is not None:
            return self.threshold_for(risk, encoding, like)
        if like is not None:
            raise ValueError("`like` says for which pairs a risk is guaranteed: give `target_risk` too.")
        return chosen.get("threshold")

    @property
    def batch_size(self) -> int:
        """Pairs in a batch, unless a call says otherwise."""
        return self._batch_size or BATCH_SIZE

    @property
    def encoding(self) -> str:
        """How this pipeline encodes pairs: its own choice, else the checkpoint's."""
        return self._forward_params.get("encoding", self.model.config.encoding)


def _groups(pairs: list[tuple[Ids, Ids]], batch_size: int) -> Iterator[list[tuple[Ids, Ids]]]:
    """Pairs in their order, as many batches together as their texts leave room for in memory."""
    group: list[tuple[Ids, Ids]] = []
    tokens = 0
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        more = sum(len(one) + len(other) for one, other in batch)
        if group and tokens + more > TOKENS_AT_ONCE:
            yield group
            group, tokens = [], 0
        group, tokens = group + batch, tokens + more
    if group:
        yield group
