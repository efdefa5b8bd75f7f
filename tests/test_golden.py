"""Decisions that only other heads may change: those of the embedded checkpoint, as version 0.2 made them."""

import json
from pathlib import Path

import pytest

import modernbert_nli

GOLDEN = json.loads((Path(__file__).parent / "golden" / "quickstart.json").read_text())


@pytest.mark.parametrize("encoding", sorted(GOLDEN))
def test_pairs_are_judged_as_before(encoding):
    nli = modernbert_nli.load(device="cpu")
    pairs = [(row["premise"], row["hypothesis"]) for row in GOLDEN[encoding]]
    for result, row in zip(nli(pairs, encoding=encoding), GOLDEN[encoding], strict=True):
        assert (result["label"], result["abstain"]) == (row["label"], row["abstain"])
        assert result["probs"] == pytest.approx(row["probs"], abs=1e-4)
        assert result["uncertainty"] == pytest.approx(row["uncertainty"], abs=1e-4)
