"""An answer against whole sources: every sentence looks at every passage, and meets those that are about it.

nli.check("The bridge opened in 1932. It is red.", {"report": long_text, "letter": other_text})

How near a passage is to a sentence (cosine of their mean states, and how well its words cover the sentence's)
costs a matrix product; the nearest of each size are judged by the heads. Support is the best passage's, as in
SummaC (Laban et al. 2022, arXiv:2111.09525), AlignScore (arXiv:2305.16739) and MiniCheck (arXiv:2404.10774);
against it weighs what single sentences about the same matter say to the contrary, and the other way round.
The weights stand in the configuration (`evidence`), as `calibrating.documents --fit` found them. What is
known without heads stands above them: a sentence of a source itself, and where `guards.veto` finds no ground.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from .claims import ABOUT_SOURCE, Part, one_claim, read_parts
from .coverage import (
    LAST,
    LOWEST,
    best_matches,
    by_claim,
    content_shares,
    cosines,
    of_passages,
    same_subject,
    shared_words,
    uncovered,
)
from .guards import (
    CONTRADICTION,
    ENTAILMENT,
    UNCERTAIN,
    UNREADABLE,
    level,
    statements,
    verbatim,
    veto,
)
from .passages import (
    Block,
    Read,
    Reader,
    Sources,
    inner_counts,
    kept,
    named,
    said_by,
    speaking,
    token_count,
)
from .sentences import Span, Splitter
from .separate import judge_each, known_texts, prepare, tokens_at_once
from .states import Text, TokenStates
from .tokenization import PairError, check_text, max_pair_length

if TYPE_CHECKING:
    from .modeling_modernbert_nli import ModernBertNliModel
    from .pipeline_modernbert_nli import NliAbstentionPipeline

# Why a sentence is left undecided, beside `guards.REASONS`.
CONFLICT = "the sources contradict each other"
ABSENT = "no passage shows what a source does not say"

# What is known of a sentence and a passage: log-odds of two labels; the cosine of their mean states; how well
# the passage covers the sentence's tokens in the last and in the lowest layer, and there its content words.
FEATURES = ("entailment", "contradiction", "cosine", "coverage", "words", "content")

RULES: dict[str, Any] = {
    "sizes": [1, 3],  # sentences in a passage
    "candidates": [8, 4],  # of each size, so many of the nearest meet the heads
    "nearness": {"cosine": 3.0, "coverage": 10.0, "words": 10.0, "content": 1.0},
    "support": {"entailment": 1.0},  # weights of features, and a bias: log-odds that the passage supports
    "contradiction": {"contradiction": 1.0, "content": 6.0, "bias": -4.0},  # the same, of single sentences
    "against": {"support": 1.0, "contradiction": 1.0},  # how much what speaks against either takes from it
    "abstain_from": None,  # the uncertainty; None: as the heads abstain on pairs
    "unsupported": {"words": 1.0, "coverage": 0.0, "threshold": 0.11},
}
_UNDECIDED: dict[str, Any] = {  # of what is no claim
    "verdict": None,
    "confidence": None,
    "abstain": False,
    "reason": None,
    "conflict": False,
    "uncertainty": None,
    "support": None,
}
_CLAIMS_AT_ONCE = 32
_SHOWN = 3  # passages of a sentence as evidence
_CONFLICT = 0.6  # how probably a sentence by itself has to support, and another to contradict
_AROUND = 1000  # characters on either side of a sentence that tell whether it stands in quotes or a list


@dataclass
class Claims:
    """The claims of an answer: texts, places, and states (`None` for heads that judge texts only).

    `parts`: all of its sentences, those that are no claims too.
    """

    texts: list[str]
    spans: list[Span]
    states: TokenStates | None
    parts: list[Part] = field(default_factory=list)

    def __getitem__(self, some: slice) -> "Claims":
        states = None if self.states is None else self.states[some]
        return Claims(self.texts[some], self.spans[some], states)


@dataclass
class Passage:
    """A passage that a claim met.

    Args:
        size (`int`): Number of its size among those of the rules: 0 for single sentences.
        nearness (`float`): By which it was chosen.
        features (`list[float]`): As in `FEATURES`.
        verbatim (`bool`): Whether its source states the claim there, word for word.
        read_as (`str`, *optional*): What was judged, where it is not `text`.
        unread (`bool`): Whether the encoder does not read it, or not the claim.
    """

    source: int
    span: Span | None
    text: str | None
    size: int
    nearness: float
    features: list[float]
    probs: list[float]
    uncertainty: float
    verbatim: bool = False
    read_as: str | None = None
    unread: bool = False

    @property
    def said(self) -> str:
        """What was judged; empty where only states are known."""
        return self.read_as or self.text or ""

    def overlaps(self, other: "Passage") -> bool:
        if self.source != other.source or self.span is None or other.span is None:
            return self.source == other.source
        return self.span[0] < other.span[1] and other.span[0] < self.span[1]


@dataclass
class Candidates:
    """Of a claim, the nearest passages of each size, nearest first.

    `matches`: the best match of each of its tokens anywhere, lowest and last layer, `(2, tokens)`.
    """

    nearest: list[list[Passage]]
    matches: torch.Tensor | None = None

    def add_matches(self, by_layer: Sequence[torch.Tensor]) -> None:
        """Of one more block, `(tokens, passages)` by layer."""
        if by_layer:
            found = torch.stack([layer.amax(dim=1) for layer in by_layer])
            self.matches = found if self.matches is None else self.matches.maximum(found)


def rules_of(config: Any, separate: bool) -> dict[str, Any]:
    """The rules of a configuration; those that were fitted hold for texts encoded apart."""
    fitted = getattr(config, "evidence", None) if separate else None
    return {**RULES, **(fitted or {})}


def check_answer(pipe: "NliAbstentionPipeline", answer: str, sources: Any, **options: Any) -> dict[str, Any]:
    """See `NliAbstentionPipeline.check`."""
    found = verdicts(pipe, answer, sources, apart=False, **options)
    if not found:
        raise ValueError("There is no source: give a text, texts, or a mapping of names to texts.")
    return found[0]


def validate_fact(
    pipe: "NliAbstentionPipeline",
    source: Any,
    claim: str,
    threshold: float | None,
    texts: Sequence[str] | None,
) -> Any:
    """See `NliAbstentionPipeline.validate_fact`."""
    facts = [
        {
            "supported": result["verdict"] == "supported",
            "contradicted": result["verdict"] == "contradicted",
            "uncertain": result["abstain"],
            "confidence": result["confidence"],
            **{key: result["sentences"][0][key] for key in ("evidence", "unsupported")},
            "read": result["read"],
        }
        for result in verdicts(pipe, claim, source, apart=True, whole=True, threshold=threshold, texts=texts)
    ]
    return facts[0] if isinstance(source, str) else facts


def read_sources(pipe: "NliAbstentionPipeline", sources: Any, splitter: Splitter | None = None) -> Sources:
    """Sources with the states of their sentences, kept in memory."""
    rules = rules_of(pipe.model.config, separate=True)
    reader = Reader(pipe.model, rules["sizes"], splitter, keep=pipe.texts)
    texts: list[str | None] = []

    def noted() -> Iterator[tuple[Any, str]]:
        for name, text in named(sources):
            texts.append(text)
            yield name, text

    blocks = list(reader.blocks(noted()))
    return Sources(blocks, texts, reader.reads)


def verdicts(
    pipe: "NliAbstentionPipeline",
    answer: str,
    sources: Any,
    apart: bool,
    threshold: float | None = None,
    texts: Sequence[str] | None = None,
    splitter: Splitter | None = None,
    max_characters: int | None = None,
    whole: bool = False,
    between: Callable[[], None] | None = None,
) -> list[dict[str, Any]]:
    """An answer's verdict from all sources together, or (`apart`) from each by itself.

    `whole`: the answer is one claim, however many sentences it has. `between`: called after each step of a
    long check, which it may end by raising.
    """
    states_given = hasattr(sources, "offsets")
    separate = states_given or hasattr(sources, "blocks") or pipe.encoding == "separate"
    rules = rules_of(pipe.model.config, separate)
    reader = Reader(pipe.model, rules["sizes"], splitter, max_characters, separate, pipe.texts)
    blocks: Iterable[Block]
    if states_given:
        read = kept(pipe.model, sources, texts, splitter)
        blocks, all_texts, reads = read.blocks, dict(enumerate(read.texts)), read.reads
    elif hasattr(sources, "blocks"):
        blocks, all_texts, reads = sources.blocks, dict(enumerate(sources.texts)), sources.reads
    else:
        blocks, all_texts, reads = reader.blocks(named(sources)), reader.texts, reader.reads
    claims = read_claims(answer, reader, whole)
    if not claims.texts:  # the sources are read, for what is told of them
        reader.encode = False
    elif not separate:  # both texts share the window
        reader.window = room_beside(pipe.model, claims.texts)
    comparison = Comparison(pipe, claims, rules, all_texts, apart)
    for block in blocks:
        if claims.texts:
            comparison.add(block, between)
    names = {number: one.source for number, one in enumerate(reads)}
    order = range(len(reads)) if apart else [0] * bool(reads)
    return [
        conclude(
            pipe,
            answer,
            claims,
            comparison.found.get(key, []),
            rules,
            threshold,
            names,
            [reads[key]] if apart else reads,
        )
        for key in order
    ]


def read_claims(answer: str, reader: Reader, whole: bool = False) -> Claims:
    """The sentences of an answer that have words, and the claims among them.

    Raises:
        PairError: none has words.
    """
    check_text(answer, "answer")
    if not re.search(r"\w", answer):
        raise PairError(0, f"the answer has no words: {answer[:40]!r}.")
    parts = [one_claim(answer)] if whole else read_parts(answer, reader.split(answer))
    judged = [part for part in parts if part.judged]
    texts = [part.plain.text for part in judged]
    states = reader.encoded(texts) if reader.encode and texts else None
    return Claims(texts, [part.span for part in judged], states, parts)


class Comparison:
    """The claims of an answer, and of each the passages nearest to it, gathered block by block.

    Args:
        pipe (`NliAbstentionPipeline`): Whose heads judge.
        claims (`Claims`): What is checked.
        rules (`Mapping`): See `RULES`.
        texts (`Mapping[int, str | None]`): Of the sources that a block is of, by number.
        apart (`bool`): Whether each source is searched by itself.
    """

    def __init__(
        self,
        pipe: "NliAbstentionPipeline",
        claims: Claims,
        rules: Mapping[str, Any],
        texts: Mapping[int, str | None],
        apart: bool = False,
    ):
        self.pipe, self.claims, self.rules, self.texts, self.apart = pipe, claims, rules, texts, apart
        # One for each claim; of each source if `apart`, else all under 0.
        self.found: dict[int, list[Candidates]] = {}

    def add(self, block: Block, between: Callable[[], None] | None = None) -> None:
        """Keep the passages of a block that are among the nearest so far: the heads judge those alone.

        What is kept does not depend on how the sources fall into blocks.
        """
        sizes = self.rules["sizes"]
        passages = block.passages(sizes)
        if self.claims.states is None:
            passages = _fitting(self.pipe, block, self.claims, passages, self.texts)
        where = [
            (block.sentences[at].source if self.apart else 0, sum(end - at > size for size in sizes[:-1]))
            for at, end in passages
        ]
        groups: dict[tuple[int, int], list[int]] = {}  # numbers of passages, by source and size
        for row, place in enumerate(where):
            groups.setdefault(place, []).append(row)
        for key in {key for key, _ in where} - set(self.found):
            self.found[key] = [Candidates([[] for _ in sizes]) for _ in self.claims.texts]
        read = None
        if block.states is not None and self.claims.states is not None:
            read = known_texts(self.pipe.model, block.states)
        for first in range(0, len(self.claims.texts), _CLAIMS_AT_ONCE):
            if between is not None:
                between()
            part = slice(first, first + _CLAIMS_AT_ONCE)
            some = self.claims[part]
            about = speaking(block, passages, some.texts)
            relevance, matches = self._relevance(block, some, passages, about)
            nearness = weighted(relevance, self.rules["nearness"]).masked_fill(~about, -float("inf"))
            chosen = self._chosen(groups, nearness, part)
            if read is not None and some.states is not None:
                said = known_texts(self.pipe.model, some.states)
                judged = _judge_states(self.pipe.model, read, said, passages, chosen)
            else:
                judged = _judge_texts(self.pipe, some.texts, self._said(block, passages), chosen)
            probs = judged.probs
            label = self.pipe.model.config.label2id
            for column, name in enumerate(FEATURES[:2]):
                if name in label:
                    relevance[..., column] = _log_odds(probs[..., label[name]])
            for claim, row in chosen.nonzero().tolist():
                key, size = where[row]
                passage = self.passage(block, passages[row], size, some.texts[claim])
                passage.nearness = float(nearness[claim, row])
                passage.features = relevance[claim, row].tolist()
                passage.probs = probs[claim, row].tolist()
                passage.uncertainty = float(judged.uncertainty[claim, row])
                passage.unread = bool(judged.unread[claim, row])
                self.found[key][first + claim].nearest[size].append(passage)
            for (key, size), rows in groups.items():
                for claim, best in enumerate(self.found[key][part]):
                    best.nearest[size].sort(key=lambda one: -one.nearness)
                    del best.nearest[size][self.rules["candidates"][size] :]
                    best.add_matches([layer[claim][:, rows] for layer in matches])

    def passage(self, block: Block, place: Span, size: int, claim: str) -> Passage:
        """A passage as it stands in its source, not judged yet."""
        source, span = _place(block, place)
        text = self.texts[source]
        raw = text[slice(*span)] if text is not None and span else None
        said = _said(block, place, self.texts)
        read_as = said if raw is not None and said.split() != raw.split() else None
        same = size == 0 and verbatim(said, claim)
        if same and read_as is None and text is not None and span:
            around = text[max(0, span[0] - _AROUND) : span[1] + _AROUND]
            same = level(claim) in statements(around)
        return Passage(source, span, raw, size, 0.0, [], [], 0.0, same, read_as)

    def _relevance(
        self, block: Block, claims: Claims, passages: Sequence[Span], about: torch.Tensor
    ) -> tuple[torch.Tensor, list[list[torch.Tensor]]]:
        """Without the heads: features, those of the heads 0, and by layer the matches of each claim's tokens.

        Of shape `(claims, passages, FEATURES)` and `(tokens, passages)`.
        """
        features = torch.zeros(len(claims.texts), len(passages), len(FEATURES))
        if block.states is None or claims.states is None:
            features[..., FEATURES.index("content")] = shared_words(claims.texts, self._said(block, passages))
            return features, []
        counts = inner_counts(claims.states).tolist()
        matches = [
            of_passages(best_matches(claims.states, block.states, layer), passages)
            for layer in (LOWEST, LAST)
        ]
        silent = ~about.repeat_interleave(inner_counts(claims.states), dim=0)
        matches = [match.masked_fill(silent, -1.0) for match in matches]
        shares = torch.tensor(
            [
                one
                for share in content_shares(claims.texts, self.pipe.model.tokenizer, counts)
                for one in share
            ]
        )
        even = torch.cat([torch.full((count,), 1 / count) for count in counts])
        columns = [
            cosines(claims.states, block.states, passages),
            by_claim(matches[1], even, counts),
            by_claim(matches[0], even, counts),
            by_claim(matches[0], shares, counts),
        ]
        features[..., 2:] = torch.stack(columns, dim=-1)
        return features, [list(layer.split(counts)) for layer in matches]

    def _said(self, block: Block, passages: Sequence[Span]) -> list[str]:
        return [_said(block, passage, self.texts) for passage in passages]

    def _chosen(
        self, groups: Mapping[tuple[int, int], list[int]], nearness: torch.Tensor, part: slice
    ) -> torch.Tensor:
        """Which passages of a block are among the nearest of some claims so far, `(claims, passages)`."""
        chosen = torch.zeros(nearness.shape, dtype=torch.bool)
        for (key, size), rows in groups.items():
            limit = self.rules["candidates"][size]
            values, order = nearness[:, rows].sort(dim=1, descending=True, stable=True)
            for claim, best in enumerate(self.found[key][part]):
                least = best.nearest[size][-1].nearness if len(best.nearest[size]) == limit else -float("inf")
                near = order[claim, :limit][values[claim, :limit] > least]
                chosen[claim, torch.tensor(rows)[near]] = True
        return chosen


def weighted(features: torch.Tensor, weights: Mapping[str, float]) -> torch.Tensor:
    """Log-odds, of features `(…, FEATURES)`."""
    return features @ torch.tensor([weights.get(name, 0.0) for name in FEATURES]) + weights.get("bias", 0.0)


class Judgements(NamedTuple):
    """What the heads say of claims and passages, `(claims, passages, labels)` and `(claims, passages)`."""

    probs: torch.Tensor
    uncertainty: torch.Tensor
    unread: torch.Tensor

    @classmethod
    def nothing(cls, chosen: torch.Tensor, labels: int) -> "Judgements":
        """Before they are asked."""
        return cls(torch.zeros(*chosen.shape, labels), torch.zeros(chosen.shape), torch.zeros_like(chosen))


@torch.no_grad()
def _judge_states(
    model: "ModernBertNliModel",
    sentences: Sequence[Text],
    claims: Sequence[Text],
    passages: Sequence[Span],
    chosen: torch.Tensor,
) -> Judgements:
    """The chosen passages, those of like length together; the rest stays 0."""
    lengths = [sum(len(sentences[row].tokens) for row in range(*passage)) for passage in passages]
    judged = Judgements.nothing(chosen, model.config.num_labels)
    prepared, longest = prepare(model, claims), max(len(claim.tokens) for claim in claims)
    pairs = sorted(chosen.T.nonzero().tolist(), key=lambda pair: lengths[pair[0]])
    while pairs:
        size = max(1, tokens_at_once(model) // (longest + lengths[pairs[0][0]]))
        while size > 1 and size * (longest + lengths[pairs[:size][-1][0]]) > tokens_at_once(model):
            size -= 1
        rows, who = zip(*pairs[:size], strict=True)
        place = {row: number for number, row in enumerate(dict.fromkeys(rows))}
        passage = prepare(model, [_together(sentences[slice(*passages[row])]) for row in place])
        beside = passage.select(torch.tensor([place[row] for row in rows]))
        output = judge_each(model, beside, prepared.select(torch.tensor(who)))
        judged.probs[who, rows] = output.logits.float().softmax(dim=-1).cpu()
        judged.uncertainty[who, rows] = output.uncertainty.float().cpu()
        if output.familiarity is not None:
            judged.unread[who, rows] = model.unread(output.familiarity).any(dim=-1).cpu()
        pairs = pairs[size:]
    return judged


def _together(sentences: Sequence[Text]) -> Text:
    """A passage: one of which any sentence is read is read."""
    familiarity = torch.stack([text.familiarity for text in sentences]).amax()
    return Text(torch.cat([text.tokens for text in sentences]), sentences[0].vector, familiarity)


def _judge_texts(
    pipe: "NliAbstentionPipeline", claims: Sequence[str], premises: Sequence[str], chosen: torch.Tensor
) -> Judgements:
    """By pairs of texts, one pass of the encoder for each: for heads that read both texts together."""
    results = pipe(
        [(premises[row], claims[claim]) for claim, row in chosen.nonzero().tolist()], threshold=1.0
    )
    judged = Judgements.nothing(chosen, pipe.model.config.num_labels)
    if results:
        judged.probs[chosen] = torch.tensor([list(result["probs"].values()) for result in results])
        judged.uncertainty[chosen] = torch.tensor([result["uncertainty"] for result in results])
        judged.unread[chosen] = torch.tensor([result["reason"] == UNREADABLE for result in results])
    return judged


def _fitting(
    pipe: "NliAbstentionPipeline",
    block: Block,
    claims: Claims,
    passages: Sequence[Span],
    texts: Mapping[int, str | None],
) -> list[Span]:
    """Without the passages that do not fit into the window beside the claims; their sentences do."""
    room = room_beside(pipe.model, claims.texts)

    def fits(passage: Span) -> bool:
        text = _said(block, passage, texts)
        return len(text.encode()) <= room or token_count(pipe.model, text) <= room

    return [passage for passage in passages if passage[1] - passage[0] == 1 or fits(passage)]


def room_beside(model: "ModernBertNliModel", claims: Sequence[str]) -> int:
    """Tokens of a premise that the window holds beside the longest of some claims, all in one sequence.

    Raises:
        PairError: none to speak of.
    """
    window = max_pair_length(model.config.encoder_config, model.tokenizer)
    longest = max(token_count(model, claim) for claim in claims)
    room = window - longest - 4
    if room < window // 8:
        raise PairError(
            0,
            f"a sentence of the answer has {longest} tokens, but the encoder reads {window} at once, source "
            "and answer together. Split it into shorter claims.",
        )
    return room


def _place(block: Block, passage: Span) -> tuple[int, Span | None]:
    """The source of a passage, and its characters there."""
    first, last = block.sentences[passage[0]], block.sentences[passage[1] - 1]
    if first.span is None or last.span is None:
        return first.source, None
    return first.source, (first.span[0], last.span[1])


def _said(block: Block, passage: Span, texts: Mapping[int, str | None]) -> str:
    """The text of a passage as it is judged: that of the source, unless it is read as something else."""
    inside = block.sentences[slice(*passage)]
    text = texts[inside[0].source]
    if any(one.read_as for one in inside):
        return " ".join(said_by(one, text) for one in inside)
    span = _place(block, passage)[1]
    return (text or "")[slice(*span)] if span else ""


def conclude(
    pipe: "NliAbstentionPipeline",
    answer: str,
    claims: Claims,
    found: Sequence[Candidates],
    rules: Mapping[str, Any],
    threshold: float | None,
    names: Mapping[int, Any],
    reads: Sequence[Read],
) -> dict[str, Any]:
    """The result, from the nearest passages of each sentence."""
    limit = threshold if threshold is not None else rules["abstain_from"]
    limit = pipe.threshold if limit is None else limit
    sentences: list[dict[str, Any]] = []
    judged = iter(found)
    for part in claims.parts:
        start, end = part.span
        place = {"text": answer[start:end], "start": start, "end": end, "kind": part.kind, "claim": None}
        if not part.judged:
            sentences.append({**place, **_UNDECIDED, "evidence": [], "unsupported": []})
            continue
        candidates, text = next(judged), part.plain.text
        verdict, shown = decide(text, candidates, rules, limit, pipe.tokenizer, pipe.model.tells)
        if part.kind == ABOUT_SOURCE and verdict["verdict"] != "supported":
            verdict.update(verdict="uncertain", abstain=True, reason=ABSENT, uncertainty=1.0)
        unsupported = []
        if verdict["verdict"] in ("not supported", "contradicted"):
            spans = uncovered(text, pipe.model.tokenizer, candidates.matches, rules["unsupported"])
            unsupported = _moved(answer, part, spans)
        evidence = [_evidence(one, score, pipe.model.config.id2label, names) for one, score in shown]
        rest = {"evidence": evidence, "unsupported": unsupported}
        sentences.append({**place, "claim": text, **verdict, **rest})
    read = _read(reads)
    return {
        **_whole(sentences),
        "sentences": sentences,
        "read": read,
        "sources": [asdict(one) for one in reads],
    }


def _sum(features: Sequence[float], weights: Mapping[str, float]) -> float:
    """`weighted` of one passage."""
    values = zip(FEATURES, features, strict=True)
    return sum((weights.get(name, 0.0) * value for name, value in values), weights.get("bias", 0.0))


def _weigh(support: float, contradiction: float, rules: Mapping[str, Any]) -> tuple[float, float]:
    """Probabilities of support and of contradiction, of log-odds of each, less what speaks against it."""

    def opposed(one: float, other: float, weight: float) -> float:
        log_odds = one - weight * (max(other, 0.0) + math.log1p(math.exp(-abs(other))))
        return 0.5 + 0.5 * math.tanh(log_odds / 2)

    against = rules["against"]
    return (
        opposed(support, contradiction, against["support"]),
        opposed(contradiction, support, against["contradiction"]),
    )


def decide(
    claim: str, candidates: Candidates, rules: Mapping[str, Any], limit: float, tokenizer: Any, told: bool
) -> tuple[dict[str, Any], list[tuple[Passage, float]]]:
    """Verdict on one claim, and the passages that it rests on, each with the probability that it says so.

    The passage that supports it best is weighed against the sentence that contradicts it most. Where one
    sentence by itself supports and another contradicts it, that is a conflict, and nothing is decided.
    """
    passages = [one for of_size in candidates.nearest for one in of_size]
    if not passages:  # none that speaks of what the claim names
        sure = {"verdict": "not supported", "confidence": 1.0, "uncertainty": 0.0, "support": 0.0}
        return {**sure, "abstain": False, "reason": None, "conflict": False}, []
    smallest = min(one.size for one in passages)
    single = [row for row, one in enumerate(passages) if one.size == smallest]
    supports = [_sum(one.features, rules["support"]) for one in passages]
    contradicts = [-math.inf] * len(passages)
    for row in single:
        contradicts[row] = _sum(passages[row].features, rules["contradiction"])
    p_support, p_against = _weigh(max(supports), max(contradicts), rules)
    # of each passage by itself
    alone = [_weigh(*both, rules) for both in zip(supports, contradicts, strict=True)]
    same = any(one.verbatim for one in passages)
    if same:
        supports = [value + 1e3 * one.verbatim for value, one in zip(supports, passages, strict=True)]
        alone = [(1.0 if one.verbatim else p, q) for (p, q), one in zip(alone, passages, strict=True)]
        p_support = 1.0
    if p_support >= 0.5 and p_support >= p_against:
        verdict, confidence, label, scores = "supported", p_support, ENTAILMENT, supports
    elif p_against >= 0.5:
        verdict, confidence, label, scores = "contradicted", p_against, CONTRADICTION, contradicts
    else:
        verdict, confidence, label = "not supported", max(0.0, 1 - p_support - p_against), ""
        scores = [one.nearness - 1e6 * one.size for one in passages]
    side, shown = (1, 1) if verdict == "contradicted" else (0, _SHOWN)
    evidence: list[tuple[Passage, float]] = []
    for row in sorted(range(len(passages)), key=lambda row: -scores[row]):
        one = passages[row]
        if len(evidence) < shown and not any(one.overlaps(other) for other, _ in evidence):
            evidence.append((one, alone[row][side]))
    deciding = evidence[0][0]
    uncertainty = deciding.uncertainty if rules["abstain_from"] is None else 1 - confidence
    if same:
        uncertainty = 0.0
    reason = UNCERTAIN if uncertainty >= limit else None
    pro = max(single, key=lambda row: alone[row][0])
    contra = max(single, key=lambda row: alone[row][1])
    conflict = alone[pro][0] >= _CONFLICT and alone[contra][1] >= _CONFLICT
    conflict = conflict and same_subject(claim, passages[contra].said)
    if conflict and not passages[pro].overlaps(passages[contra]):
        evidence = [(passages[pro], alone[pro][0]), (passages[contra], alone[contra][1])]
        reason, uncertainty = CONFLICT, 1.0
    elif not same and deciding.unread:
        reason, uncertainty = UNREADABLE, 1.0
    elif not same and (ground := veto(deciding.said, claim, label, tokenizer, told)) is not None:
        reason, uncertainty = ground, 1.0
    found = {
        "verdict": verdict if reason is None else "uncertain",
        "confidence": confidence,
        "abstain": reason is not None,
        "reason": reason,
        "conflict": reason == CONFLICT,
        "uncertainty": uncertainty,
        "support": p_support,
    }
    return (found | {"rule": "verbatim"} if same else found), evidence


def _whole(sentences: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The answer as a whole is worth what its worst claim is: supported only if every one of them is."""
    sentences = [one for one in sentences if one["verdict"] is not None]
    if not sentences:
        return {**_UNDECIDED, "verdict": "no claim", "evidence": []}
    ranks = ("contradicted", "not supported", "uncertain", "supported")
    verdict = min((one["verdict"] for one in sentences), key=ranks.index)
    deciding = [one for one in sentences if one["verdict"] == verdict]
    pick = min if verdict == "supported" else max
    one = pick(deciding, key=lambda sentence: sentence["confidence"])
    evidence = [place for sentence in sentences for place in sentence["evidence"][: 1 + sentence["conflict"]]]
    return {
        "verdict": verdict,
        "confidence": one["confidence"],
        "abstain": verdict == "uncertain",
        "reason": one["reason"],
        "conflict": any(sentence["conflict"] for sentence in sentences),
        "uncertainty": one["uncertainty"],
        "support": min(sentence["support"] for sentence in sentences),
        "evidence": [place for row, place in enumerate(evidence) if place not in evidence[:row]],
    }


def _evidence(
    passage: Passage, confidence: float, labels: Mapping[int, str], names: Mapping[int, Any]
) -> dict[str, Any]:
    start, end = passage.span or (None, None)
    return {
        "source": names[passage.source],
        "start": start,
        "end": end,
        "text": passage.text,
        "confidence": confidence,
        "probs": {labels[index]: value for index, value in enumerate(passage.probs)},
        **({} if passage.read_as is None else {"read_as": passage.read_as}),
    }


def _read(reads: Sequence[Read]) -> float:
    """The share of all characters that was read."""
    known = [(one.characters, one.read) for one in reads if one.characters]
    total = sum(characters for characters, _ in known)
    return sum(characters * share for characters, share in known) / total if total else 1.0


def _moved(answer: str, part: Part, spans: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Spans of a claim as they stand in the answer, without what is not in its sentence, as a lead-in."""
    found = []
    for span in spans:
        start, end = part.plain.original(answer, span["start"], span["end"])
        start = max(start, part.span[0])
        if start < end:
            found.append({"start": start, "end": end, "text": answer[start:end]})
    return found


def _log_odds(probs: torch.Tensor) -> torch.Tensor:
    return torch.logit(probs.double(), eps=1e-9).float()
