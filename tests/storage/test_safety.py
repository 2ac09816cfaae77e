import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.datasets import StoredDataset, read_dataset, write_dataset
from storage.errors import CorruptArtefactError, InvalidNameError
from storage.features import read_features
from storage.store import Store
from tests.storage.samples import FEATURES, small_store

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    path for room in ("fact", "storage", "pipeline", "flows") for path in (ROOT / room).rglob("*.py")
)

bad_names = st.one_of(
    st.text(max_size=400),
    st.sampled_from(
        ["../x", "..", ".", "", "/etc/passwd", "a/../../b", "a\0b", "x" * 300, "C:\\x", "\\\\h\\s", "~"]
    ),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("safety") / "store")


def ways(store):
    """Every way from a name to a path."""
    return [
        store.timeline_path,
        store.text_path,
        store.label_path,
        store.prediction_path,
        store.run_folder,
        store.checkpoint_path,
        store.evaluation_folder,
        lambda name: store.feature_path("clip", name),
        lambda name: store.feature_path(name, "0" * 64),
    ]


@given(name=bad_names)
def test_a_name_gives_a_path_in_its_folder_or_is_refused(store, name):
    for way in ways(store):
        try:
            path = way(name)
        except InvalidNameError:
            continue
        depth = len(path.relative_to(store.root).parts)
        assert path.resolve().is_relative_to(store.root.resolve())
        assert len(path.resolve().relative_to(store.root.resolve()).parts) == depth
        assert len(path.name.encode()) <= 255


@given(name=bad_names)
def test_a_data_set_name_stays_in_its_folder_or_is_refused(store, name):
    dataset = StoredDataset(name=name, classes=(), recordings={}, splits={}, source={})
    try:
        write_dataset(store, dataset)
    except InvalidNameError:
        return
    assert read_dataset(store, name) == dataset
    assert {path.parent for path in store.root.rglob("*.json")} <= {store.root, store.root / "datasets"}


def test_a_pickle_under_the_name_of_an_artefact_is_refused_unread(tmp_path):
    store = small_store(tmp_path / "store")
    path = store.feature_path("clip", FEATURES)
    np.save(tmp_path / "evil.npy", np.array([{}], dtype=object), allow_pickle=True)
    path.write_bytes((tmp_path / "evil.npy").read_bytes())
    with pytest.raises(CorruptArtefactError, match=r"cannot be read.*Delete it"):
        read_features(path)


def calls(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            yield f"{owner}.{node.func.attr}", {word.arg: word.value for word in node.keywords}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_loads_a_pickle(path):
    source = path.read_text(encoding="utf-8")
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    assert not imported & {"joblib", "dill", "cloudpickle", "shelve", "marshal"}
    # The name of its error may be caught.
    assert "pickle." not in source.replace("pickle.UnpicklingError", "")
    assert "from pickle" not in source
    for name, words in calls(path):
        if name == "torch.load":
            assert isinstance(words.get("weights_only"), ast.Constant), path
            assert words["weights_only"].value is True, path
        allow = words.get("allow_pickle")
        assert allow is None or (isinstance(allow, ast.Constant) and allow.value is False), path
