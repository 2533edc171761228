from __future__ import annotations

import datetime
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas
import polars
import pytest
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hpcompss.training.data.cache import ArrayFolder, opened
from hpcompss.training.data.digests import add_tree
from hpcompss.training.data.trees import concatenate, kind_of, leaves, map_tree, rows_of, take

PLAIN = ["?", "i1", "u1", "<i4", ">i4", "i8", "u8", "f2", "f4", "f8", "c8", "<U3", "S4", "<M8[ms]", "<m8[s]"]


class Hash:
    def __init__(self):
        self.content = b""

    def update(self, content):
        self.content += bytes(content)


def digest(tree):
    found = Hash()
    add_tree(found, tree)
    return found.content


@pytest.fixture
def kept(tmp_path_factory):
    """Writes a tree into an entry and reads it again."""

    def keep(tree, index=slice(None)):
        path = tmp_path_factory.mktemp("entry")
        folder = ArrayFolder(path)
        folder.save_tree("x", tree, index)
        folder.finish((), "")
        return opened(path).tree("x")

    return keep


def same(first, second):
    """Asserts that two trees have the same structure, types and values."""
    if isinstance(first, dict | list | tuple):
        assert type(first) is type(second) and len(first) == len(second)
        if isinstance(first, dict):
            assert list(first) == list(second)
        pairs = zip(first.values(), second.values(), strict=True) if isinstance(first, dict) else zip(first, second)  # noqa: B905
        for pair in pairs:
            same(*pair)
    elif isinstance(first, pandas.DataFrame):
        pandas.testing.assert_frame_equal(first, second)
    elif isinstance(first, pandas.Series):
        pandas.testing.assert_series_equal(first, second)
    elif isinstance(first, polars.DataFrame | polars.Series):
        assert first.equals(second)
        assert getattr(first, "schema", first.dtype if isinstance(first, polars.Series) else None) == getattr(
            second, "schema", second.dtype if isinstance(second, polars.Series) else None
        )
    elif scipy.sparse.issparse(first):
        assert type(first) is type(second) and first.dtype == second.dtype
        np.testing.assert_array_equal(first.toarray(), second.toarray())
    else:
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)


arrays = st.tuples(st.sampled_from(PLAIN), st.lists(st.integers(0, 3), max_size=3)).flatmap(
    lambda form: npst.arrays(np.dtype(form[0]), (5, *form[1]))
)
texts = st.lists(st.text(max_size=4), min_size=5, max_size=5).map(lambda words: np.array(words, object))
trees = st.recursive(
    arrays | texts,
    lambda inner: (
        st.dictionaries(st.text(min_size=1, max_size=3), inner, min_size=1, max_size=3)
        | st.lists(inner, min_size=1, max_size=3)
        | st.lists(inner, min_size=1, max_size=3).map(tuple)
    ),
    max_leaves=6,
)
indices = st.slices(5).filter(lambda each: (each.step or 1) > 0) | st.lists(st.integers(0, 4), min_size=1).map(
    lambda positions: np.array(positions, np.intp)
)


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=40)
@given(tree=trees, index=indices)
def test_what_is_kept_is_what_was_given(kept, tree, index):
    same(take(tree, index), kept(tree, index))
    found = kept(tree)
    same(tree, found)
    assert digest(tree) == digest(found)
    for (_, given_leaf), (_, leaf) in zip(leaves(tree), leaves(found), strict=True):
        assert isinstance(leaf, np.memmap) == (given_leaf.dtype.kind != "O")


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=40)
@given(tree=trees, cut=st.integers(1, 4))
def test_parts_make_the_whole(tree, cut):
    same(tree, concatenate([take(tree, slice(cut)), take(tree, slice(cut, None))]))
    assert rows_of(tree) == 5


WORDS = ["a", "b", None, "d", "e"]
DAYS = [datetime.date(2026, 1, day) for day in range(1, 6)]
FRAMES = {
    "numbers": pandas.DataFrame({"a": np.arange(5.0), "b": np.arange(5.0) * 2}, index=list("vwxyz")),
    "float32": pandas.DataFrame(np.arange(10, dtype=np.float32).reshape(5, 2), columns=[3, 1]),
    "mixed": pandas.DataFrame({"n": np.arange(5), "w": WORDS, "t": pandas.to_datetime(DAYS)}),
    "category": pandas.DataFrame({"c": pandas.Categorical(WORDS), "i": pandas.array([1, 2, None, 4, 5], "Int64")}),
    "series": pandas.Series(np.arange(5, dtype=np.uint8), index=[5, 3, 1, 0, 2], name="target"),
    "words": pandas.Series(WORDS, name="words"),
    "polars": polars.DataFrame({"n": np.arange(5), "w": WORDS, "d": DAYS}),
    "polars series": polars.Series("s", [1, None, 3, 4, 5]),
    "sparse": scipy.sparse.csr_matrix(np.eye(5, 3, dtype=np.float32)),
    "sparse array": scipy.sparse.csr_array(np.eye(5, 3)),
}


@pytest.mark.parametrize("name", FRAMES)
def test_frames_and_sparse_matrices_are_kept(kept, name):
    given_value = FRAMES[name]
    same(given_value, kept(given_value))
    for index in (slice(1, 4), np.array([3, 0, 3])):
        same(take(given_value, index), kept(given_value, index))
    parts = [take(given_value, slice(2)), take(given_value, slice(2, None))]
    same(given_value, concatenate(parts))
    assert digest(given_value) == digest(kept(given_value)) == digest(concatenate(parts))
    assert digest(given_value) != digest(take(given_value, slice(4)))


@pytest.mark.parametrize("name", ["numbers", "float32", "series"])
def test_frames_of_one_type_are_mapped(kept, name):
    values = kept(FRAMES[name]).to_numpy()
    while not isinstance(values, np.memmap):
        values = values.base
    assert not values.flags.writeable


def test_equal_objects_have_one_digest_whether_or_not_they_are_one():
    word = "".join(["wo", "rd"])
    assert digest(np.array(["word", "word"], object)) == digest(np.array(["word", word], object))


def test_names_of_leaves():
    tree = {"image": np.zeros(1), "tables": [np.zeros(1), np.zeros(1)]}
    names = ["x['image']", "x['tables'][0]", "x['tables'][1]"]
    assert [name for name, _ in leaves(tree, "x")] == names
    assert map_tree(len, tree) == {"image": 1, "tables": [1, 1]}


def test_what_is_no_leaf():
    assert [kind_of(value) for value in (3, "text", [1], None, object())] == [None] * 5


def test_ragged_tensors(tmp_path):
    pytest.importorskip("tensorflow")
    code = """
        import sys, numpy as np, tensorflow as tf
        from pathlib import Path
        from hpcompss.training.data.cache import ArrayFolder, opened
        from hpcompss.training.data.trees import concatenate, kind_of, rows_of, take
        ragged = tf.ragged.constant([[1, 2], [], [3], [4, 5, 6]], dtype=tf.int32)
        assert kind_of(ragged) == "ragged" and rows_of(ragged) == 4
        folder = ArrayFolder(Path(sys.argv[1]))
        folder.save_tree("x", {"r": ragged}, np.array([3, 0]))
        folder.finish((), "")
        kept = opened(Path(sys.argv[1])).tree("x")["r"]
        assert kept.to_list() == [[4, 5, 6], [1, 2]] and kept.dtype == tf.int32
        assert take(ragged, slice(2)).to_list() == [[1, 2], []]
        assert concatenate([kept, kept]).to_list() == [[4, 5, 6], [1, 2]] * 2
        from hpcompss.training.data.arrays import trees_of
        trees = trees_of({"train": (ragged, tf.constant([0, 1, 0, 1]))}, "it", "data")
        assert trees["y_train"].tolist() == [0, 1, 0, 1]
        print("right")
        """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.stdout == "right\n", done.stderr
