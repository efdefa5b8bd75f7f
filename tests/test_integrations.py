"""integrations/: with the real packages, where they are installed."""

import pytest

SOURCES = ["The bridge opened in 1932.", "It is made of steel."]
ANSWER = "The bridge opened in 1932. The moon is made of cheese."


def test_haystack():
    """The shape of Haystack's own evaluator, in a pipeline that is saved and read again."""
    haystack = pytest.importorskip("haystack", reason="haystack-ai is not installed")
    from modernbert_nli.integrations.haystack_nli import NliFaithfulnessEvaluator

    pipeline = haystack.Pipeline()
    pipeline.add_component("faithful", NliFaithfulnessEvaluator(threshold=1.0))
    pipeline = haystack.Pipeline.loads(
        pipeline.dumps(), allowed_modules=["modernbert_nli.integrations.haystack_nli"]
    )
    inputs = {
        "contexts": [SOURCES, SOURCES],
        "predicted_answers": [SOURCES[0], ANSWER],
        "questions": ["", ""],
    }
    found = pipeline.run({"faithful": inputs})["faithful"]
    assert found["individual_scores"] == [1.0, 0.5]
    assert found["score"] == 0.75
    assert found["results"][1]["statements"] == ["The bridge opened in 1932.", "The moon is made of cheese."]
    assert found["results"][1]["verdicts"][0]["evidence"][0]["text"] == SOURCES[0]
    evaluator = NliFaithfulnessEvaluator()
    with pytest.raises(ValueError, match="1 lists of contexts for 0 answers"):
        evaluator.run([SOURCES], [])


def test_langchain():
    """A step of a chain, whose evidence names its documents."""
    pytest.importorskip("langchain_core", reason="langchain-core is not installed")
    from langchain_core.documents import Document
    from langchain_core.messages import AIMessage
    from langchain_core.runnables import RunnableLambda

    from modernbert_nli.integrations.langchain_nli import NliCheck

    documents = [Document(SOURCES[0], metadata={"source": "a.txt"}), Document(SOURCES[1], id="b"), "Else."]
    chain = RunnableLambda(lambda answer: {"answer": answer, "documents": documents, "kept": 1})
    step = NliCheck(threshold=1.0, drop=True)
    found = (chain | step).invoke(SOURCES[0])
    assert (found["answer"], found["kept"], found["check"]["verdict"]) == (SOURCES[0], 1, "supported")
    assert found["check"]["evidence"][0]["source"] == "a.txt"
    assert [source["source"] for source in found["check"]["sources"]] == ["a.txt", "b", "2"]
    wrong = (chain | step).invoke(AIMessage(ANSWER))
    assert wrong["answer"] is None
    assert len(wrong["check"]["sentences"]) == 2
    with pytest.raises(ValueError, match="documents missing"):
        step.invoke({"answer": "a"})
