"""An answer against whole sources: every sentence meets every passage, and the best support wins.

nli.check("The bridge opened in 1932. It is red.", {"report": long_text, "letter": other_text})

What a passage says for a sentence is a weighted sum of what the heads find and of how well its words cover
those of the sentence; the weights stand in the configuration (`evidence`), as `benchmarks/documents.py --fit`
found them. Without any, it is what the heads find alone. Support is the maximum over passages, as in SummaC
(Laban et al. 2022, arXiv:2111.09525), AlignScore (arXiv:2305.16739) and MiniCheck (arXiv:2404.10774).
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from .claims import ABOUT_SOURCE, Part, one_claim, read_parts
from .coverage import LAST, LOWEST, best_matches, by_claim, cosines, of_passages, uncovered
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
from .states import TokenStates
from .tokenization import PairError, check_text, max_pair_length

VERDICTS = ("supported", "contradicted", "not supported", "uncertain", "no claim")

# What is known of a sentence and a passage: log-odds of two labels, the cosine of their mean states, and how
# well the passage covers the sentence's tokens in the last and in the lowest layer.
FEATURES = ("entailment", "contradiction", "cosine", "coverage", "words")

RULES: dict[str, Any] = {
    "sizes": [1, 3],  # sentences in a passage
    "support": {"entailment": 1.0},  # weights of features, and a bias: log-odds that the passage supports
    "contradiction": {"contradiction": 1.0},
    "abstain_from": None,  # the uncertainty; None: as the heads abstain on pairs
    "unsupported": {"words": 1.0, "coverage": 0.0, "threshold": 0.11},
}
_UNDECIDED: dict[str, Any] = {  # of what is no claim
    "verdict": None,
    "confidence": None,
    "abstain": False,
    "uncertainty": None,
    "support": None,
}
_CLAIMS_AT_ONCE = 32
_NONE = -100.0  # log-odds of a passage that is not about the claim
_CANDIDATES = 12  # looked at for the best few that do not overlap


@dataclass
class Claims:
    """The claims of an answer: texts, places, and states (`None` for heads that judge texts only).

    `parts`: all of its sentences, those that are no claims too.
    """

    texts: list[str]
    spans: list[Span]
    states: TokenStates | None
    parts: list[Part] = field(default_factory=list)


@dataclass
class Judged:
    """Every claim against every passage of a block.

    `probs` (claims, passages, labels); `uncertainty` (claims, passages); `features` (claims, passages,
    `FEATURES`); `matches`, by layer (lowest, last), of the claims' tokens in each passage (tokens, passages).
    """

    passages: list[Span]
    probs: torch.Tensor
    uncertainty: torch.Tensor
    features: torch.Tensor
    matches: list[torch.Tensor]


@dataclass
class Passage:
    """What one passage says for a claim; `score`: log-odds."""

    score: float
    source: int
    span: Span | None
    text: str | None
    probs: list[float]
    uncertainty: float
    read_as: str | None = None  # what was judged, where it is not that text

    def overlaps(self, other: "Passage") -> bool:
        if self.source != other.source or self.span is None or other.span is None:
            return self.source == other.source
        return self.span[0] < other.span[1] and other.span[0] < self.span[1]


@dataclass
class Best:
    """The passages that say most for a claim, best first and none over another, and most against it.

    `matches`: the best match of each of its tokens anywhere, lowest and last layer, `(2, tokens)`.
    """

    support: list[Passage] = field(default_factory=list)
    contradiction: list[Passage] = field(default_factory=list)
    matches: torch.Tensor | None = None


def rules_of(config: Any, separate: bool) -> dict[str, Any]:
    """The rules of a configuration; those that were fitted hold for texts encoded apart."""
    fitted = getattr(config, "evidence", None) if separate else None
    return {**RULES, **(fitted or {})}


def check_answer(pipe: Any, answer: str, sources: Any, **options: Any) -> dict[str, Any]:
    """See `NliAbstentionPipeline.check`."""
    found = verdicts(pipe, answer, sources, apart=False, **options)
    if not found:
        raise ValueError("There is no source: give a text, texts, or a mapping of names to texts.")
    return found[0]


def read_sources(pipe: Any, sources: Any, splitter: Splitter | None = None) -> Sources:
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
    pipe: Any,
    answer: str,
    sources: Any,
    apart: bool,
    threshold: float | None = None,
    texts: Sequence[str] | None = None,
    splitter: Splitter | None = None,
    max_characters: int | None = None,
    top: int = 3,
    whole: bool = False,
) -> list[dict[str, Any]]:
    """An answer's verdict from all sources together, or (`apart`) from each by itself.

    `whole`: the answer is one claim, however many sentences it has.
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
    bests: dict[int, list[Best]] = {}
    for block in blocks:
        if not claims.texts:
            continue
        judged = judge(pipe, block, claims, rules["sizes"], all_texts)
        _collect(bests, block, judged, claims, rules, all_texts, apart, top)
    names = {number: one.source for number, one in enumerate(reads)}
    order = range(len(reads)) if apart else [0] * bool(reads)
    return [
        _answer(
            pipe,
            answer,
            claims,
            bests.get(key, []),
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


def judge(
    pipe: Any, block: Block, claims: Claims, sizes: Sequence[int], texts: Mapping[int, str | None]
) -> Judged:
    """Every claim against every passage of a block."""
    passages = block.passages(sizes)
    if claims.states is None:
        passages = _fitting(pipe, block, claims, passages, texts)
    about = speaking(block, passages, claims.texts)
    if block.states is None or claims.states is None:
        probs, uncertainty = _judge_texts(pipe, block, claims, passages, texts)
        relevance: list[torch.Tensor] = []
        matches: list[torch.Tensor] = []
    else:
        probs, uncertainty = _judge_states(pipe.model, block.states, claims.states, passages)
        matches = [
            of_passages(best_matches(claims.states, block.states, layer), passages)
            for layer in (LOWEST, LAST)
        ]
        counts = inner_counts(claims.states)
        silent = ~about.repeat_interleave(counts, dim=0)
        matches = [match.masked_fill(silent, -1.0) for match in matches]
        words, coverage = (by_claim(match, claims.states) for match in matches)
        relevance = [cosines(claims.states, block.states, passages), coverage, words]
    label = pipe.model.config.label2id
    columns = [_log_odds(probs[..., label[name]]) if name in label else None for name in FEATURES[:2]]
    columns += relevance or [None] * 3
    zeros = torch.zeros(probs.shape[:2])
    features = torch.stack([zeros if column is None else column for column in columns], dim=-1)
    features = features.masked_fill(~about[..., None], torch.nan)
    return Judged(passages, probs, uncertainty, features, matches)


def weighted(features: torch.Tensor, weights: Mapping[str, float]) -> torch.Tensor:
    """Log-odds, of features `(…, FEATURES)`; `_NONE` where they are nan: a passage about something else."""
    scores = features @ torch.tensor([weights.get(name, 0.0) for name in FEATURES]) + weights.get("bias", 0.0)
    return scores.nan_to_num(nan=_NONE)


@torch.no_grad()
def _judge_states(
    model: Any, states: TokenStates, claims: TokenStates, passages: Sequence[Span]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each sentence is projected once for all passages, each passage prepared once for all claims."""
    sentences, said = model.kept(states), model.kept(claims)
    lengths = [sum(len(sentences[row].tokens) for row in range(*passage)) for passage in passages]
    longest, most = max(len(text.tokens) for text in said), model.tokens_at_once
    probs = torch.empty(len(said), len(passages), model.config.num_labels)
    uncertainty = torch.empty(len(said), len(passages))
    order = sorted(range(len(passages)), key=lengths.__getitem__)
    for first in range(0, len(said), _CLAIMS_AT_ONCE):
        some = model.prepare(said[first : first + _CLAIMS_AT_ONCE])
        columns = slice(first, first + _CLAIMS_AT_ONCE)
        at = 0
        while at < len(order):
            rows = [order[at]]
            while (at := at + 1) < len(order) and (
                (len(rows) + 1) * len(some.vectors) * (lengths[order[at]] + longest) <= most
            ):
                rows.append(order[at])
            texts = []
            for row in rows:
                inside = sentences[slice(*passages[row])]
                texts.append(inside[0]._replace(tokens=torch.cat([text.tokens for text in inside])))
            output = model.judge_every(model.prepare(texts), some)
            probs[columns, rows] = output.logits.float().softmax(dim=-1).transpose(0, 1).cpu()
            uncertainty[columns, rows] = output.uncertainty.float().T.cpu()
    return probs, uncertainty


def _judge_texts(
    pipe: Any, block: Block, claims: Claims, passages: Sequence[Span], texts: Mapping[int, str | None]
) -> tuple[torch.Tensor, torch.Tensor]:
    """By pairs of texts, one pass of the encoder for each: for heads that read both texts together."""
    premises = [_said(block, passage, texts) for passage in passages]
    results = pipe([(premise, claim) for claim in claims.texts for premise in premises], threshold=1.0)
    shape = (len(claims.texts), len(passages))
    probs = torch.tensor([list(result["probs"].values()) for result in results])
    uncertainty = torch.tensor([result["uncertainty"] for result in results])
    return probs.view(*shape, -1), uncertainty.view(shape)


def _fitting(
    pipe: Any, block: Block, claims: Claims, passages: Sequence[Span], texts: Mapping[int, str | None]
) -> list[Span]:
    """Without the passages that do not fit into the window beside the claims; their sentences do."""
    room = room_beside(pipe.model, claims.texts)

    def fits(passage: Span) -> bool:
        text = _said(block, passage, texts)
        return len(text.encode()) <= room or token_count(pipe.model, text) <= room

    return [passage for passage in passages if passage[1] - passage[0] == 1 or fits(passage)]


def room_beside(model: Any, claims: Sequence[str]) -> int:
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


def _collect(
    bests: dict[int, list[Best]],
    block: Block,
    judged: Judged,
    claims: Claims,
    rules: Mapping[str, Any],
    texts: Mapping[int, str | None],
    apart: bool,
    top: int,
) -> None:
    """Keep of a block what says most for and against each claim, for each source if `apart`."""
    scores = [weighted(judged.features, rules[name]) for name in ("support", "contradiction")]
    counts = [] if claims.states is None else inner_counts(claims.states).tolist()
    groups: dict[int, list[int]] = {}
    for row, (start, _) in enumerate(judged.passages):
        groups.setdefault(block.sentences[start].source if apart else 0, []).append(row)

    def passage(claim: int, row: int, score: float) -> Passage:
        source, span = _place(block, judged.passages[row])
        text = texts[source]
        raw = text[slice(*span)] if text is not None and span else None
        said = _said(block, judged.passages[row], texts)
        return Passage(
            score,
            source,
            span,
            raw,
            judged.probs[claim, row].tolist(),
            float(judged.uncertainty[claim, row]),
            said if raw is not None and said.split() != raw.split() else None,
        )

    for key, rows in groups.items():
        best = bests.setdefault(key, [Best() for _ in claims.texts])
        if judged.matches:
            anywhere = torch.stack([layer[:, rows].amax(dim=1) for layer in judged.matches])
            for one, matches in zip(best, anywhere.split(counts, dim=1), strict=True):
                one.matches = matches if one.matches is None else one.matches.maximum(matches)
        for support, side in ((True, scores[0]), (False, scores[1])):
            values, order = side[:, rows].topk(min(_CANDIDATES if support else 1, len(rows)), dim=1)
            for claim, (row_values, row_order) in enumerate(
                zip(values.tolist(), order.tolist(), strict=True)
            ):
                chosen = best[claim].support if support else best[claim].contradiction
                limit = top if support else 1
                for value, column in zip(row_values, row_order, strict=True):
                    if len(chosen) < limit or value > chosen[-1].score:
                        _insert(chosen, passage(claim, rows[column], value), limit)


def _insert(chosen: list[Passage], new: Passage, limit: int) -> None:
    """Put a passage among the best, unless it overlaps with a better one."""
    if any(new.overlaps(other) and other.score >= new.score for other in chosen):
        return
    chosen[:] = [other for other in chosen if not new.overlaps(other)]
    chosen.append(new)
    chosen.sort(key=lambda one: -one.score)
    del chosen[limit:]


def _answer(
    pipe: Any,
    answer: str,
    claims: Claims,
    bests: Sequence[Best],
    rules: Mapping[str, Any],
    threshold: float | None,
    names: Mapping[int, Any],
    reads: Sequence[Read],
) -> dict[str, Any]:
    """The result, from the best passages of each sentence."""
    limit = threshold if threshold is not None else rules["abstain_from"]
    limit = pipe.threshold if limit is None else limit
    sentences: list[dict[str, Any]] = []
    judged = iter(bests)
    for part in claims.parts:
        start, end = part.span
        place = {"text": answer[start:end], "start": start, "end": end, "kind": part.kind, "claim": None}
        if not part.judged:
            sentences.append({**place, **_UNDECIDED, "evidence": [], "unsupported": []})
            continue
        best, text = next(judged), part.plain.text
        verdict = _verdict(best, rules, limit)
        if (
            part.kind == ABOUT_SOURCE and verdict["verdict"] != "supported"
        ):  # no passage shows what is not there
            verdict.update(verdict="uncertain", abstain=True, uncertainty=1.0)
        unsupported = []
        if verdict["verdict"] in ("not supported", "contradicted"):
            spans = uncovered(text, pipe.model.tokenizer, best.matches, rules["unsupported"])
            unsupported = _moved(answer, part, spans)
        deciding = best.contradiction if verdict["verdict"] == "contradicted" else best.support
        evidence = [_evidence(one, pipe.model.config.id2label, names) for one in deciding]
        found = {"evidence": evidence, "unsupported": unsupported}
        sentences.append({**place, "claim": text, **verdict, **found})
    read = _read(reads)
    return {
        **_whole(sentences),
        "sentences": sentences,
        "read": read,
        "sources": [asdict(one) for one in reads],
    }


def _verdict(best: Best, rules: Mapping[str, Any], limit: float) -> dict[str, Any]:
    """Verdict on one sentence: supported, or else contradicted, or neither; or uncertain, from `limit` on."""
    support, against = best.support[0], best.contradiction[0]
    p_support, p_against = _probability(support.score), _probability(against.score)
    if p_support >= 0.5:
        verdict, confidence, deciding = "supported", p_support, support
    elif p_against >= 0.5:
        verdict, confidence, deciding = "contradicted", p_against, against
    else:
        verdict, confidence, deciding = "not supported", max(0.0, 1 - p_support - p_against), support
    uncertainty = deciding.uncertainty if rules["abstain_from"] is None else 1 - confidence
    abstain = uncertainty >= limit
    return {
        "verdict": "uncertain" if abstain else verdict,
        "confidence": confidence,
        "abstain": abstain,
        "uncertainty": uncertainty,
        "support": p_support,
    }


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
    evidence = [sentence["evidence"][0] for sentence in sentences]
    return {
        "verdict": verdict,
        "confidence": one["confidence"],
        "abstain": verdict == "uncertain",
        "uncertainty": one["uncertainty"],
        "support": min(sentence["support"] for sentence in sentences),
        "evidence": [place for row, place in enumerate(evidence) if place not in evidence[:row]],
    }


def _evidence(passage: Passage, labels: Mapping[int, str], names: Mapping[int, Any]) -> dict[str, Any]:
    start, end = passage.span or (None, None)
    return {
        "source": names[passage.source],
        "start": start,
        "end": end,
        "text": passage.text,
        "confidence": _probability(passage.score),
        "probs": {labels[index]: value for index, value in enumerate(passage.probs)},
        **({} if passage.read_as is None else {"read_as": passage.read_as}),
    }


def _read(reads: Sequence[Read]) -> float:
    """The share of all characters that was read."""
    known = [(one.characters, one.read) for one in reads if one.characters]
    total = sum(characters for characters, _ in known)
    return sum(characters * share for characters, share in known) / total if total else 1.0


def _moved(answer: str, part: Part, spans: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Spans of a claim as they stand in the answer; what is not in its sentence, as a lead-in, is left out."""
    found = []
    for span in spans:
        start, end = part.plain.original(answer, span["start"], span["end"])
        start = max(start, part.span[0])
        if start < end:
            found.append({"start": start, "end": end, "text": answer[start:end]})
    return found


def _log_odds(probs: torch.Tensor) -> torch.Tensor:
    return torch.logit(probs.double(), eps=1e-9).float()


def _probability(score: float) -> float:
    return float(torch.tensor(score, dtype=torch.float64).sigmoid())
