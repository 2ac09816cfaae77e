"""What training can be told: each option does what it says, and what cannot be done names both sides."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import DatasetError, SettingsError, TrainingError
from pipeline.model import load_model
from pipeline.run_files import read_curves
from pipeline.standardize import Standardisation
from pipeline.train import train
from pipeline.training_data import Loading, StoredSamples, _place_for
from storage.store import Store
from tests.pipeline.tiny import RECIPE, TRAIN, write_split, write_tiny_dataset

pytestmark = pytest.mark.usefixtures("single_thread")

STILL = RECIPE.replace("dropout: 0.1", "dropout: 0.0")
"""Nothing random but the first weights and the order of the videos."""


@pytest.fixture
def still(tmp_path):
    path = tmp_path / "still.yaml"
    path.write_text(STILL)
    return str(path)


def losses(store, run):
    return [row["loss"] for row in read_curves(Store(store).run_folder(run))]


def weights(store, run):
    return load_file(Store(store).run_folder(run) / "model.safetensors")


def same_bits(one, other):
    return all(torch.equal(one[name], other[name]) for name in one.keys() | other.keys())


def test_accumulated_batches_make_the_step_of_one_large_batch(tiny, own_store, still):
    # The published rate, for the reason given below where two processes train like one.
    large, small = (
        train(tiny.settings(own_store, recipe=still, epochs=4, learning_rate=1e-4, **batches))
        for batches in ({"batch_size": 3}, {"batch_size": 1, "accumulate": 3})
    )
    assert large.run != small.run
    assert losses(own_store, small.run) == pytest.approx(losses(own_store, large.run), rel=1e-5)


def test_steps_of_fixed_shapes_train_the_same_run(tiny, tmp_path, still):
    found = []
    # On a CPU nothing is recorded, but shapes, padding and gradients are the graphs'.
    for graphs in (False, True):
        folder = tmp_path / str(graphs)
        tiny.fill(folder)
        run = train(tiny.settings(folder, recipe=still, epochs=2, batch_size=2, graphs=graphs)).run
        found.append((run, losses(folder, run)))
    # Sums in another order are other bits, so another run.
    assert found[0][0] != found[1][0]
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-4)


def test_features_read_again_every_epoch_train_the_same_weights(tiny, tmp_path):
    found = {}
    for preload in ("memory", "off", "cache"):
        tiny.fill(tmp_path / preload)
        run = train(tiny.settings(tmp_path / preload, epochs=2, preload=preload, loader_workers=0)).run
        found[preload] = (run, weights(tmp_path / preload, run))
        copies = list((tmp_path / preload).glob("features/*/.cache/*.f32"))
        # Two profiles of each training video.
        assert len(copies) == (2 * len(TRAIN) if preload == "cache" else 0)
    for preload in ("off", "cache"):
        assert found[preload][0] == found["memory"][0]
        assert same_bits(found[preload][1], found["memory"][1])


@pytest.mark.parametrize(
    ("free", "read_only", "expected"),
    [
        ((2000, 0), False, "memory"),
        ((1998, 3998), False, "cache"),
        ((1998, 3996), False, "off"),
        ((1998, 3998), True, "off"),
    ],
)
def test_features_that_do_not_fit_memory_are_mapped_where_the_disk_has_room(
    tmp_path, monkeypatch, free, read_only, expected
):
    """999 bytes of features, every second step of what is stored; so many bytes of memory and disk are free."""
    memory, disk = free
    monkeypatch.setattr("pipeline.training_data._free_memory_bytes", lambda: memory)
    monkeypatch.setattr("pipeline.training_data.shutil.disk_usage", lambda _: SimpleNamespace(free=disk))
    store = Store(tmp_path / "store")
    stored = StoredSamples(
        (),
        sample_rate=2,
        pool="none",
        standardisation=Standardisation.none(3),
        store=Store(store.root, read_only=True) if read_only else store,
    )
    loading = Loading(preload="auto", workers=0, device=torch.device("cpu"))
    size = 999
    assert _place_for(size, loading, cache_fits=stored.cache_fits(size)) == expected


@pytest.mark.slow
def test_workers_train_the_same_weights(tiny, tmp_path):
    found = []
    for workers in (0, 2):
        tiny.fill(tmp_path / str(workers))
        run = train(
            tiny.settings(tmp_path / str(workers), epochs=2, preload="off", loader_workers=workers)
        ).run
        found.append(weights(tmp_path / str(workers), run))
    assert same_bits(*found)


def test_deterministic_training_gives_the_same_bits_twice_and_leaves_the_program_as_it_was(tiny, tmp_path):
    found = []
    for name in ("one", "two"):
        tiny.fill(tmp_path / name)
        run = train(tiny.settings(tmp_path / name, epochs=2, deterministic=True)).run
        found.append(weights(tmp_path / name, run))
    assert same_bits(*found)
    assert not torch.are_deterministic_algorithms_enabled()


def test_without_standardisation_features_stay_as_they_are(tiny, own_store):
    run = train(tiny.settings(own_store, epochs=1, standardize=False)).run
    found = weights(own_store, run)
    assert torch.equal(found["standardisation.mean"], torch.zeros(1536))
    assert torch.equal(found["standardisation.scale"], torch.ones(1536))


def test_the_model_keeps_how_its_input_was_made(tiny, own_store):
    run = train(tiny.settings(own_store, epochs=1, every=2, pool="mean", standardize_over="video")).run
    model = load_model(Store(own_store).run_folder(run), device=torch.device("cpu"))
    assert (model.description.pool, model.description.standardized_over) == ("mean", "video")
    rows = np.random.default_rng(0).standard_normal((9, 1536)).astype(np.float32)
    # What differs from video to video by a shift and a scale makes no difference to the prediction.
    found, moved = model.predict(rows), model.predict(4 * rows + 8)
    np.testing.assert_array_equal(found.labels_T, moved.labels_T)
    np.testing.assert_allclose(found.confidence_T, moved.confidence_T, rtol=1e-3)


def test_without_standardisation_nothing_is_kept_of_whose_it_would_have_been(tiny, own_store):
    run = train(tiny.settings(own_store, epochs=1, standardize=False, standardize_over="video")).run
    model = load_model(Store(own_store).run_folder(run), device=torch.device("cpu"))
    assert model.standardisation.over == "training"


def test_both_standardisations_lie_side_by_side(tiny, own_store):
    settings = tiny.settings(own_store, epochs=1, standardize_over="both")
    model = load_model(Store(own_store).run_folder(train(settings).run), device=torch.device("cpu"))
    rows = np.random.default_rng(0).standard_normal((9, 1536)).astype(np.float32)
    made = model.standardisation.apply(rows).numpy()
    mean, scale = (part.numpy() for part in (model.standardisation.mean_D, model.standardisation.scale_D))
    own = (rows - rows.mean(0)) / rows.std(0)
    np.testing.assert_allclose(
        made, np.concatenate([(rows - mean) / scale, own], axis=1), rtol=1e-4, atol=1e-4
    )
    assert mean.any()
    assert len(model.predict(rows).labels_T) == 9
    run = train(tiny.settings(own_store, epochs=1)).run
    with pytest.raises(SettingsError, match="side by side"):
        train(tiny.settings(own_store, epochs=1, standardize_over="both", init=run))


def test_training_videos_are_changed_at_random_where_it_is_asked_for(tiny, own_store):
    plain, jittered, stretched = (
        train(tiny.settings(own_store, epochs=2, **changes)).run
        for changes in ({}, {"channel_jitter": 0.1}, {"time_stretch": 0.3})
    )
    assert len({plain, jittered, stretched}) == 3
    found = [losses(own_store, run) for run in (plain, jittered, stretched)]
    assert found[0] != found[1]
    assert found[0] != found[2]


def test_half_precision_and_averaged_weights_learn_too(tiny, own_store):
    run = train(tiny.settings(own_store, epochs=12, precision="bfloat16", ema=0.5, optimizer="adamw")).run
    found = losses(own_store, run)
    assert found[-1] < 0.7 * found[0]
    assert {tensor.dtype for tensor in weights(own_store, run).values()} == {torch.float32}


@pytest.mark.slow
def test_two_processes_train_like_one_with_the_same_global_batch(tiny, tmp_path, still):
    found = []
    for processes in (1, 2):
        store = tmp_path / str(processes)
        tiny.fill(store)
        # The published rate. Adam takes the sign of a gradient that is all rounding: a rate for tests of 50 times as
        # much would turn that into another path within some steps.
        settings = tiny.settings(store, recipe=still, epochs=10, batch_size=2, learning_rate=1e-4)
        code = (
            "import json, sys, torch; torch.set_num_threads(1)\n"
            "from pipeline.settings import RunSettings\nfrom pipeline.train import train\n"
            "train(RunSettings(**json.loads(sys.argv[1])))\n"
        )
        script = tmp_path / "train_it.py"
        script.write_text(code)
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [
            sys.executable,
            *(torchrun if processes > 1 else []),
            str(script),
            settings.model_dump_json(),
        ]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr[-3000:]
        (folder,) = (path for path in Store(store).runs.iterdir() if path.is_dir())
        assert json.loads((folder / "manifest.json").read_text())["processes"] == processes
        found.append(losses(store, folder.name))
    # 3 videos in batches of 2: twenty steps, in every second of which one process has no video.
    assert len(found[0]) == 10
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_a_batch_larger_than_the_data_names_both(tiny, own_store):
    with pytest.raises(SettingsError, match="A batch of 4 videos was asked for, but there are 3 to train on"):
        train(tiny.settings(own_store, batch_size=4))
    with pytest.raises(SettingsError, match="A batch of 3 videos was asked for, but there are 2 to train on"):
        train(tiny.settings(own_store, batch_size=3, validation_groups="."))


@pytest.fixture
def changed(tmp_path):
    """A data set of its own, to be changed, and its store."""
    dataset = write_tiny_dataset(tmp_path / "data")
    dataset.fill(tmp_path / "store")
    return dataset, tmp_path / "store"


def relabel(dataset, video, old, new):
    path = dataset.root / "labels" / f"{video}.txt"
    path.write_text(path.read_text().replace(old, new))


def test_labels_that_are_all_background_are_an_error(changed):
    dataset, store = changed
    for video in "abc":
        for label in ("pour milk", "stir"):
            relabel(dataset, video, label, "background")
    with pytest.raises(
        DatasetError, match=r"All labels of the 3 training videos are background .* the 2 other"
    ):
        train(dataset.settings(store, epochs=1, batch_size=1))


def test_a_class_of_test_videos_only_is_an_error_unless_it_is_accepted(changed):
    dataset, store = changed
    for video in "abc":
        relabel(dataset, video, "stir", "pour milk")
    with pytest.raises(
        DatasetError, match=r"'stir' is in test video 'x' but in none of the 3 training videos"
    ):
        train(dataset.settings(store, epochs=1))
    assert train(dataset.settings(store, epochs=1, allow_unseen=True)).trained


def test_one_video_trains(changed):
    dataset, store = changed
    write_split(dataset.root, train="a", test="x")
    outcome = train(dataset.settings(store, epochs=1, batch_size=1, allow_unseen=True))
    assert np.isfinite(losses(store, outcome.run)).all()


def test_more_processes_than_videos_in_a_batch_are_an_error():
    from pipeline.parallel import Team

    team = Team(rank=0, size=3, device=torch.device("cpu"))
    with pytest.raises(TrainingError, match="A batch of 2 cannot be shared by 3 processes"):
        team.check_batch_size(2)


def test_a_recipe_file_may_hold_our_settings_and_options_win(tiny, own_store, tmp_path):
    path = tmp_path / "ours.yaml"
    path.write_text(RECIPE + "training: {model: fact, epochs: 2, seed: 5, standardize: false}\n")
    settings = tiny.settings(own_store, recipe=str(path), epochs=1)
    assert (settings.training.epochs, settings.training.seed, settings.training.standardize) == (1, 5, False)
    assert train(settings).epochs == 1


def test_a_run_is_the_start_of_another_with_other_classes(changed):
    dataset, store = changed
    first = train(dataset.settings(store, epochs=1)).run
    again = train(dataset.settings(store, epochs=1, init=first[:12], learning_rate=1e-30))
    old = load_model(Store(store).run_folder(first), device=torch.device("cpu")).network.state_dict()
    kept = load_model(Store(store).run_folder(again.run), device=torch.device("cpu")).network.state_dict()
    assert all(torch.allclose(kept[name], old[name], atol=1e-6) for name in old)
    mapping = dataset.root / "mapping.txt"
    mapping.write_text(mapping.read_text() + "3 pour tea\n")
    other = train(dataset.settings(store, epochs=1, init=first[:12], learning_rate=1e-30)).run
    new = load_model(Store(store).run_folder(other), device=torch.device("cpu")).network.state_dict()
    name = "block_list.0.frame_branch.conv_out.weight"
    # Four classes and null: the last five channels are made anew, the others kept.
    assert torch.allclose(new[name][:-5], old[name][:-5], atol=1e-6)
    assert not torch.isclose(new[name][-5:], old[name][-5:]).any()
    assert torch.allclose(new["action_query"], old["action_query"], atol=1e-6)
