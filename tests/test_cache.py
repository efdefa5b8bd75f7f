"""The state cache holds what the model sees, is computed once, and no fault leaves half of it."""

import errno
import itertools
import os
import threading

import numpy as np
import pytest
import torch
from conftest import make_model, rows, write
from hypothesis import given
from hypothesis import strategies as st

from modernbert_nli.training import cache as cache_module
from modernbert_nli.training.cache import cache_states, compact, missing_bytes, recomputed_states
from modernbert_nli.training.data import load_pairs
from modernbert_nli.training.on_states import judge_states
from modernbert_nli.training.states import PairStates, StoredPairs, collate
from modernbert_nli.training.trainers import LengthSampler


@pytest.fixture
def pairs(tmp_path):
    """60 pairs."""
    return load_pairs(write(tmp_path / "pairs.jsonl", rows(60)))


def joint(base):
    """A model that reads two layers of joint pairs alone."""
    model = make_model(base)
    model.config.encoder_layers = {"joint": [1, 2]}
    return model


def assert_same(first: PairStates, second: PairStates) -> None:
    """Every item has the same states and labels."""
    assert len(first) == len(second)
    for one, other in zip(
        first.__getitems__(list(range(len(first)))),
        second.__getitems__(list(range(len(second)))),
        strict=True,
    ):
        assert one["labels"] == other["labels"]
        assert list(one["sides"]) == list(other["sides"])
        for encoding in one["sides"]:
            for side, expected in zip(one["sides"][encoding], other["sides"][encoding], strict=True):
                np.testing.assert_array_equal(side, expected)


def test_an_interrupted_cache_goes_on_where_it_was(tiny_modernbert, tmp_path, monkeypatch, pairs):
    """Killed in the middle, it does not start over, and its states are those of one that was not."""
    model = joint(tiny_modernbert)
    whole = cache_states(model, pairs, tmp_path / "whole", batch_size=8)

    encode, calls = cache_module._encode_now, []

    def fail_later(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return encode(*arguments)

    monkeypatch.setattr(cache_module, "_BATCHES_BETWEEN_NOTES", 2)
    monkeypatch.setattr(cache_module, "_encode_now", fail_later)
    with pytest.raises(KeyboardInterrupt):
        cache_states(model, pairs, tmp_path / "cut", batch_size=8)
    calls[:] = [1] * 5
    resumed = cache_states(model, pairs, tmp_path / "cut", batch_size=8)
    assert len(calls) - 5 == 8 - 4  # 60 pairs are 8 batches, of which 4 were noted as done
    assert_same(resumed, whole)


@pytest.mark.parametrize(
    ("head_type", "encoding"), [("cls", "joint"), ("alignment", "joint"), ("alignment", "separate")]
)
def test_cached_states_give_the_logits_of_the_pairs(tiny_bert, tmp_path, head_type, encoding):
    """What the stages see from the cache is what the model says of the text, up to its precision."""
    model = make_model(tiny_bert, head_type)
    pairs = load_pairs(write(tmp_path / "pairs.jsonl", rows(12)))
    states = cache_states(model, pairs, tmp_path / "states").only(encoding)
    with torch.no_grad():
        cached = judge_states(model, **collate([states[index] for index in range(12)])).logits
        inputs = model.tokenizer(pairs.premises, pairs.hypotheses, padding=True, return_tensors="pt")
        direct = model(**inputs, encoding=encoding).logits
    torch.testing.assert_close(cached, direct, atol=5e-3, rtol=0)


@given(st.integers(0, 1000), st.floats(1, 1e4), st.floats(-10, 10))
def test_compact_states_are_the_same_after_normalisation(seed, scale, shift):
    """Whatever the scale and the mean, LayerNorm gives back what it would have given, to within a step."""
    states = torch.randn(3, 2, 64, generator=torch.Generator().manual_seed(seed)) * scale + shift * scale
    kept = compact(states)
    assert kept.dtype == torch.int8
    normal, again = (torch.nn.functional.layer_norm(x.float(), (64,)) for x in (states, kept))
    step = normal.abs().amax(dim=-1, keepdim=True) / 127
    assert ((normal - again).abs() <= step).all()


@pytest.mark.parametrize("head_type", ["cls", "alignment"])
def test_stored_kept_and_recomputed_states_are_the_same(tiny_bert, tmp_path, head_type, pairs):
    """On disk, in memory, or encoded batch by batch as they are read; also of a part with repetitions."""
    model = make_model(tiny_bert, head_type)
    stored = cache_states(model, pairs, tmp_path / "states")
    assert_same(cache_states(model, pairs, None), stored)
    which = np.array([9, 0, 9, 13])
    recomputed = recomputed_states(model, pairs)
    assert recomputed.lengths.tolist() == stored.lengths.tolist()
    for one, other in zip(
        recomputed.take(which).__getitems__([0, 1, 2, 3]),
        stored.take(which).__getitems__([0, 1, 2, 3]),
        strict=True,
    ):
        for encoding, sides in one["sides"].items():
            for side, expected in zip(sides, other["sides"][encoding], strict=True):
                # Batches of other sizes: equal up to rounding, which is one step of int8 at most.
                tolerance = 1 if side.dtype == np.int8 else 2e-3
                np.testing.assert_allclose(side.astype(float), expected.astype(float), atol=tolerance)


@pytest.mark.parametrize(
    "states_of", [lambda *a: cache_states(*a), lambda model, pairs, _: recomputed_states(model, pairs)]
)
def test_states_of_several_files_are_one_data_set(tiny_bert, tmp_path, states_of):
    """Concatenated and cut, every row still has its own states and label, in both encodings."""
    model = make_model(tiny_bert)
    parts = [
        states_of(model, load_pairs(write(tmp_path / f"{seed}.jsonl", rows(7, seed))), tmp_path / "states")
        for seed in (1, 2)
    ]
    both = PairStates.concatenate(parts).take(np.array([9, 0, 6, 13]))
    assert list(both.encoded) == ["joint", "separate"]
    for index, (part, row) in enumerate([(1, 2), (0, 0), (0, 6), (1, 6)]):
        assert both[index]["labels"] == parts[part][row]["labels"]
        for encoding, sides in both[index]["sides"].items():
            for side, expected in zip(sides, parts[part][row]["sides"][encoding], strict=True):
                np.testing.assert_array_equal(side, expected)
    for encoding in both.encoded:
        sizes = [sum(map(len, both[index]["sides"][encoding])) for index in range(4)]
        assert both.only(encoding).lengths.tolist() == sizes


def test_a_cache_belongs_to_base_layers_tokenizer_and_data(tiny_modernbert, tmp_path, pairs):
    """Whatever changes the states changes the name under which they are kept; the rest does not."""

    def size(model, pairs=pairs):
        return missing_bytes(model, pairs, tmp_path)

    model = joint(tiny_modernbert)
    states = cache_states(model, pairs, tmp_path)
    assert size(model) == 0
    assert size(joint(tiny_modernbert)) == 0  # other heads, the same states
    assert missing_bytes(model, pairs, None) == states.encoded["joint"].files[0].states.nbytes

    layers = joint(tiny_modernbert)
    layers.config.encoder_layers = {"joint": [2]}
    weights = joint(tiny_modernbert)
    next(weights.encoder.parameters()).data[0, 0] += 1
    words = joint(tiny_modernbert)
    words.tokenizer.add_tokens(["antidisestablishment"])
    other = pairs.take(np.arange(len(pairs))[::-1].copy())
    for changed in (size(layers), size(weights), size(words), size(model, other)):
        assert changed > 0


def test_two_runs_share_one_pass(tiny_modernbert, tmp_path, monkeypatch, pairs):
    """The second run waits for the first one's cache instead of writing into it."""
    encode, calls = cache_module._encode_now, []
    monkeypatch.setattr(cache_module, "_encode_now", lambda *a: calls.append(len(a[-1])) or encode(*a))
    models, results = [joint(tiny_modernbert) for _ in range(2)], [None, None]

    def work(number):
        results[number] = cache_states(models[number], pairs, tmp_path, batch_size=4)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sum(calls) == len(pairs)
    assert_same(*results)
    assert [path.suffix for path in tmp_path.iterdir() if path.is_dir()] == [""]


def test_a_full_disk_is_said_before_anything_is_encoded(tiny_modernbert, tmp_path, monkeypatch, pairs):
    """The space is taken first: a map that has none kills its process. Nothing half done stays."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    monkeypatch.setattr(cache_module, "_encode_now", lambda *_: pytest.fail("the encoder ran"))
    with pytest.raises(OSError, match=r"No room for .* GB of states in .*--cache_dir"):
        cache_states(joint(tiny_modernbert), pairs, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


@pytest.mark.parametrize("name", ["states.npy", "offsets.npy"])
def test_an_unreadable_cache_is_named(tiny_modernbert, tmp_path, name, pairs):
    """A file that was cut ends in a sentence; without that folder, all is computed again."""
    model = joint(tiny_modernbert)
    whole = cache_states(model, pairs, tmp_path)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    kept = [array.copy() for array in whole[0]["sides"]["joint"]]
    content = (folder / name).read_bytes()
    (folder / name).unlink()  # not in place: it is mapped
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cannot be read .* Delete that folder") as caught:
        cache_states(model, pairs, tmp_path)
    assert str(folder) in str(caught.value)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    for side, expected in zip(cache_states(model, pairs, tmp_path)[0]["sides"]["joint"], kept, strict=True):
        np.testing.assert_array_equal(side, expected)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=300), st.integers(1, 9), st.integers(0, 5))
def test_the_order_of_an_epoch(lengths, batch_size, seed):
    """Each pair once; the same again for the same epoch, as a resumption needs; other epochs differ."""
    sampler = LengthSampler(np.array(lengths), batch_size, seed)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert orders[0] == orders[2]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(len(lengths)))


def test_batches_hold_pairs_of_like_length():
    """Padding is small, and short batches alternate with long ones."""
    lengths = np.random.default_rng(0).integers(5, 100, 3200)
    order = np.array(list(LengthSampler(lengths, 32, 0))).reshape(-1, 32)
    assert (lengths[order].max(axis=1) - lengths[order].min(axis=1)).mean() < 10
    means = lengths[order].mean(axis=1)
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.3


def test_encodings_take_turns_and_the_other_one_is_not_read(tiny_modernbert, tmp_path, monkeypatch, pairs):
    """Each pair is seen once an epoch, a batch in one encoding, the next in the other, which then swap."""
    states = cache_states(make_model(tiny_modernbert), pairs, tmp_path)
    read = []
    fetch = StoredPairs.fetch
    monkeypatch.setattr(StoredPairs, "fetch", lambda self, rows: read.append(self) or fetch(self, rows))
    sampler = LengthSampler(states.lengths, 12, 0, states.in_turn)
    seen = {}
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        order = np.array(list(sampler)).reshape(-1, 12)
        assert sorted((order % len(states)).ravel()) == list(range(len(states)))
        for batch in order:
            read.clear()
            items = states.__getitems__(batch.tolist())
            (encoding,) = {name for item in items for name in item["sides"]}
            assert read == [states.encoded[encoding]]
            seen.setdefault(epoch, []).append(encoding)
            plain = states.__getitems__((batch % len(states)).tolist())
            for item, both in zip(items, plain, strict=True):
                assert item["labels"] == both["labels"]
                for one, other in zip(item["sides"][encoding], both["sides"][encoding], strict=True):
                    np.testing.assert_array_equal(one, other)
    assert all(one != other for one, other in itertools.pairwise(seen[0]))
    assert all(one != other for one, other in zip(seen[0], seen[1], strict=True))
