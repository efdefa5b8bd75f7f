"""What heads can learn from: which files, of which kind of text, and how often a pair of each is seen.

Files of one domain are left out together, and so are domains of one fold: five runs leave out all of them.
Related domains (two sorts of claims about one encyclopaedia, say) are in one fold, so that none is judged by
heads that have seen its cousin. `experiments/run.py` measures what a mix is worth.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nltk.tokenize.treebank import TreebankWordDetokenizer

from . import word_order
from .work_folder import write_aside

Kind = Literal["home", "made", "evidence", "language", "template"]
FOLDS = 5
MADE = 8000  # pairs of `word_order.py`
EVALUATION = ("snli_test_a", "multi_nli_matched_a", "ling_nli_a", "hans_a")


@dataclass(frozen=True)
class Source:
    """A file of labelled pairs."""

    name: str
    kind: Kind
    domain: str
    fold: int | None = None  # in which it is left out; what is at home never is


@dataclass(frozen=True)
class Mix:
    """How often a pair of each kind is seen in an epoch, and of some files in particular."""

    made: float = 0.0
    evidence: float = 0.0
    language: float = 0.0
    template: float = 0.0
    files: tuple[tuple[str, float], ...] = ()

    def weight(self, source: Source) -> float:
        return dict(self.files).get(source.name, 1.0 if source.kind == "home" else getattr(self, source.kind))


SOURCES = (
    Source("snli", "home", "captions"),
    Source("multi_nli", "home", "ten genres"),
    Source("multi_nli_detokenised", "home", "ten genres"),
    Source("ling_nli", "home", "ten genres"),
    Source("new_protocols", "home", "encyclopaedia, written for NLI"),
    Source("conj_nli", "home", "conjunctions"),
    Source("counterfactual_snli", "home", "captions"),
    Source("word_order", "made", "who did what to whom"),
    Source("fever", "evidence", "claims: encyclopaedia", 0),
    Source("fool_me_twice", "evidence", "claims: encyclopaedia", 0),
    Source("dialfact", "evidence", "claims: dialogue", 0),
    Source("curriculum_spatial", "template", "space", 0),
    Source("curriculum_counting", "template", "numbers", 0),
    Source("dnc_sentiment", "language", "reviews", 0),
    Source("healthver_dev", "evidence", "claims: health", 1),
    Source("covidfact", "evidence", "claims: health", 1),
    Source("nli4ct", "evidence", "claims: clinical trials", 1),
    Source("paws", "language", "paraphrase", 1),
    Source("curriculum_boolean", "template", "and, only, not", 1),
    Source("curriculum_negation", "template", "and, only, not", 1),
    Source("curriculum_lexical", "template", "predicates", 1),
    Source("curriculum_verbcorner", "language", "predicates", 1),
    Source("rte", "evidence", "claims: news", 2),
    Source("negation_rte", "evidence", "claims: news", 2),
    Source("mpe", "language", "captions, several", 2),
    Source("curriculum_kg_relations", "language", "names and relations", 2),
    Source("curriculum_ner", "language", "names and relations", 2),
    Source("curriculum_conditional", "template", "conditionals", 2),
    Source("dnc_verbnet", "language", "thematic roles", 2),
    Source("flute", "language", "figures of speech", 3),
    Source("curriculum_monotonicity", "template", "monotonicity", 3),
    Source("curriculum_comparative", "template", "comparatives", 3),
    Source("curriculum_sprl", "language", "proto-roles", 3),
    Source("negation_snli", "language", "edited pairs", 3),
    Source("negation_mnli", "language", "edited pairs", 3),
    Source("dnc_function_words", "language", "edited pairs", 3),
    Source("curriculum_drop", "language", "reading comprehension", 4),
    Source("curriculum_temporal", "language", "time", 4),
    Source("curriculum_coreference", "language", "coreference", 4),
    Source("dnc_winogender", "language", "coreference", 4),
    Source("dnc_factuality", "language", "factuality", 4),
    Source("dnc_megaveridicality", "language", "factuality", 4),
    Source("curriculum_quantifier", "template", "quantifiers", 4),
)

# Ten genres in a third of the pairs: what other kinds of text cost is lost there first.
_TEN_GENRES = (("multi_nli", 2.0), ("multi_nli_detokenised", 2.0))

# What was tried. The quick start learns from the first, and goes on with the last.
MIXES = {
    "home": Mix(),
    "all": Mix(evidence=1, language=1, template=1),
    "evidence": Mix(evidence=2),
    "further": Mix(made=1, evidence=1, language=0.6, template=0.3, files=_TEN_GENRES),
}


def files(data: Path, aside: Path) -> dict[str, Path]:
    """Where each source and each evaluation set is, under a folder with `train/`, `breadth/` and `eval/`.

    One comes with Penn Treebank's spacing ("do n't ( ever )"): it is given that of a text, in `aside`. There
    too is what is made here.
    """
    found = {name: data / "eval" / f"{name}.jsonl" for name in EVALUATION}
    for source in SOURCES:
        folder = "train" if source.kind == "home" else "breadth"
        found[source.name] = data / folder / f"{source.name}.jsonl"
    detokenised = aside / "multi_nli_detokenised.jsonl"
    if not detokenised.exists():
        _detokenise(data / "train" / "multi_nli_tokenised.jsonl", detokenised)
    made = aside / "word_order.jsonl"
    if not made.exists():
        write_aside(made, word_order.lines(MADE))
    return {**found, "multi_nli_detokenised": detokenised, "word_order": made}


def _detokenise(source: Path, target: Path) -> None:
    detokenizer = TreebankWordDetokenizer()
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    for row in rows:
        row.update({side: detokenizer.detokenize(row[side].split()) for side in ("premise", "hypothesis")})
    target.parent.mkdir(parents=True, exist_ok=True)
    write_aside(target, "".join(json.dumps(row) + "\n" for row in rows))
