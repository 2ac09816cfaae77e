"""A run of another data set, or of other features: an error that names both, before anything is predicted."""

import numpy as np
import pytest

from pipeline.errors import DatasetError, SettingsError
from pipeline.evaluate import evaluate_run
from pipeline.import_mstcn import MstcnFolder, import_mstcn
from pipeline.settings import DatasetSettings, RunSettings
from pipeline.settings_training import TrainingSettings
from pipeline.train import train
from storage.store import Store
from tests.pipeline.tiny import CLASSES, write_split

pytestmark = pytest.mark.usefixtures("single_thread")


def import_noise(root, store, *, width=1536, classes=CLASSES):
    """A data set whose name is that of its folder; ``width`` is that of the tiny videos' features."""
    for name in ("features", "groundTruth"):
        (root / name).mkdir(parents=True)
    (root / "splits").mkdir()
    rng = np.random.default_rng(0)
    for video in "pq":
        np.save(root / "features" / f"{video}.npy", rng.standard_normal((30, width)).astype(np.float32))
        lines = [classes[index] for index in np.repeat([0, 1, 2], 10)]
        (root / "groundTruth" / f"{video}.txt").write_text("".join(f"{line}\n" for line in lines))
    (root / "mapping.txt").write_text("".join(f"{index} {name}\n" for index, name in enumerate(classes)))
    write_split(root, train="p", test="q")
    import_mstcn(MstcnFolder.at(root), name=root.name, store=Store(store), orientation="TD")


def settings_of(name, store, **training):
    return RunSettings(
        store=store,
        dataset=DatasetSettings(imported=name),
        extraction={"device": "cpu", "weights": "random"},
        training=TrainingSettings(**{"model": "fact", "epochs": 1, "batch_size": 1, **training}),
    )


OTHERS = [
    (
        {"classes": ("background", "pour milk", "fry")},
        r"knows 3 classes, .*'other' names 3, and class \d is .*: '[^']+' for the model, 'fry",
    ),
    ({"width": 8}, r"trained on features .*imported.*4.*; the imported data set 'other' has .*8"),
]


@pytest.mark.parametrize(("differs", "words"), OTHERS)
def test_a_run_is_not_scored_on_another_data_set(tiny, tmp_path, differs, words):
    store = tmp_path / "store"
    import_noise(tmp_path / "own", store, width=4)
    import_noise(tmp_path / "other", store, **{"width": 4, **differs})
    recipe = str(tiny.root / "tiny.yaml")
    run = train(settings_of("own", store, recipe=recipe)).run
    with pytest.raises(DatasetError, match=words):
        evaluate_run(settings_of("other", store, recipe=recipe), run=run)
    assert not list((store / "evaluations").glob("*"))


def test_a_run_on_features_of_videos_is_not_scored_on_imported_ones_of_the_same_width(
    tiny, own_store, tmp_path
):
    run = train(tiny.settings(own_store, epochs=1)).run
    import_noise(tmp_path / "other", own_store)
    words = r"trained on features i3d-rgb:stride=4.*, clip.*; the imported data set 'other' has .*1536"
    with pytest.raises(DatasetError, match=words):
        evaluate_run(settings_of("other", own_store), run=run)


@pytest.mark.parametrize("width", [1536, 8])
def test_a_run_on_other_features_is_no_start(tiny, own_store, tmp_path, width):
    run = train(tiny.settings(own_store, epochs=1)).run
    import_noise(tmp_path / "other", own_store, width=width)
    words = rf"--init .* was trained on features i3d-rgb:stride=4.*1024 wide.*; here are .*\({width} wide\)"
    with pytest.raises(SettingsError, match=words):
        train(settings_of("other", own_store, recipe=str(tiny.root / "tiny.yaml"), init=run[:12]))
