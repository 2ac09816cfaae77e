"""A benchmark: every split from every seed, once, and means that plain arithmetic confirms."""

import json
import statistics
from pathlib import Path

import pytest

from benchmarks import recipe_search
from fact.config import recipe
from pipeline.benchmark_dataset import BenchmarkSettings, benchmark, one_run
from pipeline.errors import DatasetError, SettingsError
from pipeline.recipes import resolve_config
from pipeline.run_files import read_curves
from pipeline.settings_file import read_settings_file
from pipeline.settings_training import TrainingSettings
from storage.store import Store
from tests.pipeline.tiny import write_split, write_tiny_dataset

pytestmark = pytest.mark.usefixtures("single_thread")

BENCHMARKS = Path(recipe_search.__file__).parent
RECIPE_FILE = BENCHMARKS / "jigsaws_published.yaml"


@pytest.fixture
def splits(tmp_path):
    """Two splits of the tiny videos and a store with their features."""
    dataset = write_tiny_dataset(tmp_path / "data")
    write_split(dataset.root, train="bcx", test="ay", name="split2")
    dataset.fill(tmp_path / "store")
    return dataset, tmp_path / "store"


def settings_of(dataset, store, *, training=None, **values):
    plain = dataset.settings(store, **{"epochs": 1, "allow_unseen": True, **(training or {})})
    return BenchmarkSettings(**{**dict(plain), **values})


def test_validation_scores_come_without_a_test_video_and_nothing_is_done_twice(splits):
    dataset, store = splits
    # Video y is tested in both splits and trained on in none: it need not even exist.
    (dataset.root / "videos" / "y.mp4").unlink()
    (dataset.root / "labels" / "y.txt").unlink()
    settings = settings_of(
        dataset, store, seeds=(0, 1), score="validation", training={"validation_groups": ".", "batch_size": 1}
    )
    made = benchmark(settings)
    assert [(row.split, row.seed) for row in made.rows] == [
        ("split1", 0),
        ("split1", 1),
        ("split2", 0),
        ("split2", 1),
    ]
    assert all(row.trained for row in made.rows)
    assert not (store / "evaluations").exists()
    again = benchmark(settings)
    assert not any(row.trained for row in again.rows)
    assert [row.run for row in again.rows] == [row.run for row in made.rows]
    means = [
        statistics.fmean(row.scores["edit"] for row in made.rows if row.split == split)
        for split in made.by_split
    ]
    assert made.over_splits["edit"].mean == pytest.approx(statistics.fmean(means))
    assert made.over_splits["edit"].deviation == pytest.approx(statistics.stdev(means))
    assert made.over_seeds["edit"].count == 2


def test_a_split_that_is_not_there_lists_those_that_are(splits):
    with pytest.raises(DatasetError, match=r"has no split 'split7'; it has split1, split2"):
        benchmark(settings_of(*splits, splits=("split7",)))


def test_validation_scores_need_held_out_videos(splits):
    with pytest.raises(SettingsError, match=r"--score validation .* --validation-groups"):
        benchmark(settings_of(*splits, score="validation"))


def test_the_published_jigsaws_recipe_is_the_published_gtea_recipe_but_for_what_it_says():
    settings = TrainingSettings(recipe=str(RECIPE_FILE))
    found, published = resolve_config(settings, max_segments=9), recipe("gtea")
    assert (settings.model, settings.standardize) == ("fact", True)
    assert (found.input_block, found.update_block, found.segment_block, found.loss) == (
        published.input_block,
        published.update_block,
        published.segment_block,
        published.loss,
    )
    assert (found.model.blocks, found.model.step_position, found.model.frame_weight) == (
        published.model.blocks,
        published.model.step_position,
        published.model.frame_weight,
    )
    assert (found.model.num_tokens, found.model.channel_mask_rate, found.time_mask.use) == (40, 0.1, False)
    training = found.training
    assert (training.epochs, training.lr, training.lr_decay, training.sample_rate) == (40, 3e-4, 30, 6)
    assert (training.batch_size, training.optimizer, training.max_grad_norm) == (1, "Adam", 10.0)


def test_every_try_can_be_trained_and_the_recipe_is_the_one_that_was_chosen(tmp_path):
    tries, published = read_settings_file(BENCHMARKS / "jigsaws_tries.yaml"), read_settings_file(RECIPE_FILE)
    recipes = {name: recipe_search.recipe_of(name, tries, published) for name in tries}
    for name, made in recipes.items():
        file = tmp_path / f"{name}.yaml"
        file.write_text(json.dumps(made))
        resolve_config(TrainingSettings(recipe=str(file)), max_segments=30)
    assert recipes["published"] == published
    assert recipes["stretch-04-batch-2"] == read_settings_file(BENCHMARKS / "jigsaws.yaml")


def test_a_search_scores_the_last_weights_on_videos_held_out_and_at_the_end_as_the_benchmark_does(splits):
    held_out = {"validation_groups": ".", "batch_size": 1, "epochs": 3}
    settings = settings_of(*splits, training=held_out, score="validation")
    row = recipe_search.run(job_of(settings, test=False), "cpu")
    last = read_curves(Store(splits[1]).run_folder(row["run"]))[-1]
    assert row["scores"] == {
        name: pytest.approx(last[f"validation {name}"], abs=0.01) for name in row["scores"]
    }
    assert sorted(row["by_epoch"]) == [1, 2, 3]
    settings = settings_of(*splits, splits=("split1",))
    row, made = recipe_search.run(job_of(settings, test=True), "cpu"), benchmark(settings).rows[0]
    assert row["run"] == made.run
    assert row["scores"] == {name: pytest.approx(made.scores[name], abs=0.01) for name in row["scores"]}


def job_of(settings, *, test):
    one = one_run(settings, split="split1", seed=0)
    return recipe_search.Job(name="tiny", identity="0" * 64, settings=one, test=test)
