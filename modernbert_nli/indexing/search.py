"""A claim against all passages of an index, or against a shortlist of the nearest ones."""

import heapq
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ..files import InputError
from ..guards import overruled
from ..separate import judge_every, known_texts, prepare, tokens_at_once
from ..states import Text, TokenStates
from .store import PassageIndex

if TYPE_CHECKING:
    from ..pipeline_modernbert_nli import NliAbstentionPipeline

NEAREST = "nearest.faiss"
ABOUT = 0.35  # cosine with a claim from which a passage is about its matter; of its own source 95 % have more
_NEIGHBOURS = 32  # of a passage in the graph of Malkov & Yashunin 2016 (arXiv:1603.09320)


class Found(NamedTuple):
    """A passage that was judged.

    Args:
        score (`float`): Its probability of what is looked for.
        row (`int`): Its number in the index.
        probs (`dict[str, float]`): By label.
        uncertainty (`float`): Of the heads.
    """

    score: float
    row: int
    judged: dict[str, Any]


def ask(
    pipe: "NliAbstentionPipeline", index: PassageIndex, claim: str, top: int = 5, shortlist: int | None = None
) -> dict[str, list[dict[str, Any]]]:
    """The passages that support a claim best, and those that contradict it most.

    Args:
        pipe (`NliAbstentionPipeline`): Whose heads made the index.
        index (`PassageIndex`): Judged as a stream: memory does not grow with it.
        claim (`str`): One sentence.
        top (`int`): How many of each.
        shortlist (`int`, *optional*): Judge no more than so many, the nearest by the base's own embedding.

    Returns:
        `dict`: `supporting` and `contradicting`, the most probable first, each with `id`, `text`, `probs`,
        `uncertainty`, `abstain` and `reason`, as the pipeline judges pairs. A passage contradicts only what
        it is about, and where no other label is more probable.

    Raises:
        InputError: an index of other heads, or a claim that is no text.
    """
    (known,) = pipe.texts.of(pipe.model).read([claim])
    hypothesis = prepare(pipe.model, [known])
    best: dict[str, list[Found]] = {"entailment": [], "contradiction": []}
    ids, limit = pipe.model.config.label2id, pipe.threshold
    for rows, texts in _texts(pipe, index, known, shortlist):
        prepared = prepare(pipe.model, texts)
        output = judge_every(pipe.model, prepared, hypothesis)
        probs = output.logits[:, 0].float().softmax(dim=-1)
        about = (prepared.vectors @ hypothesis.vectors.T)[:, 0] >= ABOUT
        for label, heap in best.items():
            if label not in ids:
                continue
            places = torch.arange(len(rows), device=probs.device)
            if label == "contradiction":
                places = places[about & (probs.argmax(dim=-1) == ids[label])]
            best_places = places[probs[places, ids[label]].topk(min(top, len(places))).indices]
            for place in best_places.tolist():
                (judged,) = pipe.decide({name: values[place] for name, values in output.items()}, limit)
                found = Found(judged["probs"][label], rows[place], judged)
                (heapq.heappush if len(heap) < top else heapq.heappushpop)(heap, found)
    contradicting = _shown(pipe, index, claim, sorted(best["contradiction"], reverse=True))
    return {
        "supporting": _shown(pipe, index, claim, sorted(best["entailment"], reverse=True)),
        "contradicting": [one for one in contradicting if one["label"] == "contradiction"],
    }


def _shown(
    pipe: "NliAbstentionPipeline", index: PassageIndex, claim: str, found: Sequence[Found]
) -> list[dict[str, Any]]:
    """Passages with what the pipeline says of them, and what is known without heads."""
    limit = pipe.threshold
    shown = []
    for passage, one in zip(index.passages([one.row for one in found]), found, strict=True):
        result = overruled(passage["text"], claim, one.judged, limit, pipe.tokenizer, pipe.model.tells)
        shown.append({**passage, **result})
    return shown


def _texts(
    pipe: "NliAbstentionPipeline", index: PassageIndex, claim: Text, shortlist: int | None
) -> Iterator[tuple[list[int], list[Text]]]:
    """Numbers and projected tokens of passages, in parts of like length."""
    chosen = None if shortlist is None else set(nearest(index, claim.vector, shortlist))
    most = tokens_at_once(pipe.model)
    for first, states in index.states():
        _require(pipe, states)
        rows = torch.arange(len(states))
        if chosen is not None:
            rows = torch.tensor([row for row in rows.tolist() if first + row in chosen], dtype=torch.long)
        lengths = states.lengths[rows]
        order = lengths.argsort(stable=True)
        part: list[int] = []
        for row, length in zip(rows[order].tolist(), lengths[order].tolist(), strict=True):
            if part and (len(part) + 1) * length > most:
                yield [first + one for one in part], _projected(pipe, states, part)
                part = []
            part.append(row)
        if part:
            yield [first + one for one in part], _projected(pipe, states, part)


def _projected(pipe: "NliAbstentionPipeline", states: TokenStates, rows: list[int]) -> list[Text]:
    return known_texts(pipe.model, states[rows])


def _require(pipe: "NliAbstentionPipeline", states: TokenStates) -> None:
    try:
        known_texts(pipe.model, states[:0])
    except ValueError as error:
        raise InputError(f"The index is of other heads: {error}") from error


def nearest(index: PassageIndex, vector: torch.Tensor, count: int) -> list[int]:
    """Numbers of the passages nearest to a vector by cosine, the nearest first.

    By the graph that `write_graph` made, where it is and faiss too; else by comparing with every passage.
    """
    graph = index.folder / NEAREST
    if graph.is_file():
        read = _read_graph(graph, graph.stat().st_mtime_ns)
        if read.ntotal == len(index):
            read.hnsw.efSearch = max(64, count)
            return [
                row for row in read.search(vector[None].float().numpy(), count)[1][0].tolist() if row >= 0
            ]
    best: list[tuple[float, int]] = []
    for first, vectors in _vectors(index):
        scores, rows = (vectors @ vector.float()).topk(min(count, len(vectors)))
        found = zip(scores.tolist(), (rows + first).tolist(), strict=True)
        best = heapq.nlargest(count, [*best, *found])
    return [row for _, row in best]


@lru_cache(maxsize=1)
def _read_graph(path: Path, changed: int) -> Any:
    """Once, however many claims follow: it is read as a whole."""
    return _faiss().read_index(str(path))


def write_graph(index: PassageIndex) -> Path:
    """A graph of all passages for `nearest`, hierarchical and navigable, written aside and then renamed.

    Raises:
        InputError: faiss is not installed.
    """
    faiss = _faiss()
    graph = None
    for _, vectors in _vectors(index):
        if graph is None:
            graph = faiss.IndexHNSWFlat(vectors.shape[1], _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        graph.add(vectors.numpy())
    path = index.folder / NEAREST
    aside = path.with_name(f"{NEAREST}.partial")
    faiss.write_index(graph, str(aside))
    return aside.replace(path)


def _vectors(index: PassageIndex) -> Iterator[tuple[int, torch.Tensor]]:
    """Number of the first passage of a shard, and vectors of length 1, (passages, hidden_size)."""
    for first, states in index.states():
        assert states.vectors is not None  # projected texts have them
        yield first, torch.nn.functional.normalize(states.vectors.float(), dim=-1)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise InputError('A graph needs faiss: run `pip install ".[index]"`.') from error
    return faiss
