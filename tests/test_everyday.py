"""Everyday inputs, where the file with them is there: how many come out as they may, which may not fall."""

import json
from typing import Any

import pytest
from conftest import ROOT

import modernbert_nli

CASES = ROOT.parent / "shared" / "cases" / "everyday.jsonl"
AS_ALLOWED = 65  # of 66


def said(nli: modernbert_nli.NliAbstentionPipeline, case: dict[str, Any]) -> str | None:
    """The verdict, the label or the category."""
    if case["call"] == "check":
        return nli.check(case["answer"], case["source"])["verdict"]
    if case["call"] == "pair":
        result = nli(case["premise"], case["hypothesis"])
        return "abstain" if result["abstain"] else result["label"]
    return nli.route(case["text"], case["categories"])["category"]


@pytest.mark.skipif(not CASES.is_file(), reason=f"the everyday cases are not beside this repository: {CASES}")
def test_everyday_inputs(capsys):
    """Right, or undecided: what is left over is never a confident "supported" or "entailment"."""
    nli = modernbert_nli.load()
    cases = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
    wrong = [(case, found) for case in cases if (found := said(nli, case)) not in case["allowed"]]
    with capsys.disabled():
        print(f"\neveryday inputs: {len(cases) - len(wrong)} of {len(cases)} as allowed")
    assert not [case for case, found in wrong if found in ("supported", "entailment")]
    assert len(cases) - len(wrong) >= AS_ALLOWED, [(case["id"], found) for case, found in wrong]
