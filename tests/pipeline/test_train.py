"""Training: the same run is never trained twice, another one always is, and half a run is none."""

import json
import os
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from fact.loss import MatchCriterion
from pipeline.errors import DatasetError, LabelError, TrainingError
from pipeline.model import load_model
from pipeline.run_files import read_curves
from pipeline.settings import EvaluateSettings
from pipeline.train import find_trained, train
from storage.errors import MissingArtefactError
from storage.folders import MANIFEST, read_manifest
from storage.keys import file_digest
from storage.store import Store
from storage.texts import TextEncoderIdentity, text_key, write_text_embedding
from tests.pipeline.tiny import CLASSES, TRAIN, write_split, write_tiny_dataset

pytestmark = pytest.mark.usefixtures("single_thread")


def train_tiny(dataset, store, **training):
    return train(dataset.settings(store, **{"epochs": 2, **training}))


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_run_folder_has_model_curves_settings_and_the_manifest_last(tiny, tiny_store, tiny_run):
    folder = Store(tiny_store).run_folder(tiny_run)
    files = {path.name for path in folder.iterdir()}
    assert files == {"model.safetensors", "model.json", "curves.parquet", "settings.json", MANIFEST}
    last = max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert last.name == MANIFEST
    facts = read_manifest(folder)
    assert facts["files"] == {name: file_digest(folder / name) for name in files - {MANIFEST}}
    assert sorted(facts["videos"]) == list(TRAIN)
    assert facts["labels"]["a"] == file_digest(tiny.root / "labels" / "a.txt")
    assert len(facts["notices"]) == 2
    ended = datetime.fromtimestamp(last.stat().st_mtime, UTC)
    assert abs(datetime.fromisoformat(facts["trained_at"]) - ended) < timedelta(minutes=1)


def test_the_loss_falls_epoch_by_epoch_and_is_kept(tiny_store, tiny_run):
    curves = read_curves(Store(tiny_store).run_folder(tiny_run))
    assert [row["epoch"] for row in curves] == list(range(1, 31))
    assert curves[-1]["loss"] < 0.5 * curves[0]["loss"]
    assert {row["learning_rate"] for row in curves} == {0.005}


def test_the_learning_rate_falls_to_a_tenth_after_its_epoch(tiny, own_store, tmp_path):
    recipe = tmp_path / "decay.yaml"
    recipe.write_text((tiny.root / "tiny.yaml").read_text().replace("epoch: 30", "epoch: 4\nlr_decay: 3"))
    outcome = train(tiny.settings(own_store, recipe=str(recipe)))
    rates = [row["learning_rate"] for row in read_curves(Store(own_store).run_folder(outcome.run))]
    assert rates == pytest.approx([0.005, 0.005, 0.005, 0.0005])


def test_the_same_settings_train_nothing_again(tiny, tiny_store, tiny_run):
    folder = Store(tiny_store).run_folder(tiny_run)
    before = stamps(folder)
    again = train(tiny.settings(tiny_store))
    assert (again.run, again.trained, again.epochs) == (tiny_run, False, 30)
    assert stamps(folder) == before


def test_where_it_runs_and_how_videos_are_batched_for_extraction_make_no_other_run(
    tiny, tiny_store, tiny_run
):
    settings = tiny.settings(tiny_store)
    extraction = settings.extraction.model_copy(update={"device": "auto", "batch_videos": 3})
    assert train(settings.model_copy(update={"extraction": extraction})).run == tiny_run


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny, own_store, tmp_path):
    tiny.fill(tmp_path / "other")
    weights = []
    for store, seed in [(own_store, 5), (tmp_path / "other", 5), (own_store, 6)]:
        torch.manual_seed(len(weights))  # what happened before must not matter
        run = train_tiny(tiny, store, seed=seed).run
        weights.append((run, load_file(Store(store).run_folder(run) / "model.safetensors")))
    (first, ours), (same, theirs), (other, others) = weights
    assert first == same != other
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert any(not np.array_equal(ours[name], others[name]) for name in ours)


def test_training_leaves_the_generator_of_the_program_alone(tiny, own_store):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train_tiny(tiny, own_store)
    assert torch.equal(torch.rand(3), expected)


def test_other_labels_features_or_videos_make_another_run(tmp_path):
    dataset, store = write_tiny_dataset(tmp_path / "data"), tmp_path / "store"
    dataset.fill(store)
    runs = [train_tiny(dataset, store, epochs=1).run]
    labels = dataset.root / "labels" / "a.txt"
    labels.write_text(labels.read_text().replace("stir", "pour milk"))
    runs.append(train_tiny(dataset, store, epochs=1).run)
    video = dataset.root / "videos" / "a.mp4"
    video.write_bytes(video.read_bytes() + (8).to_bytes(4, "big") + b"free")
    outcome = train_tiny(dataset, store, epochs=1)  # without its features the video is left out
    assert [one.status for one in outcome.outcomes] == ["failed", "done", "done"]
    runs.append(outcome.run)
    dataset.fill(store, "a")
    runs.append(train_tiny(dataset, store, epochs=1).run)
    write_split(dataset.root, train="abcx", test="y")
    runs.append(train_tiny(dataset, store, epochs=1).run)
    assert len(set(runs)) == 5


def test_a_killed_run_is_done_anew(tiny, own_store):
    first = train_tiny(tiny, own_store)
    folder = Store(own_store).run_folder(first.run)
    expected = load_file(folder / "model.safetensors")
    (folder / MANIFEST).unlink()
    (folder / "model.safetensors").write_bytes(b"half")
    again = train_tiny(tiny, own_store)
    assert (again.trained, again.run) == (True, first.run)
    found = load_file(folder / "model.safetensors")
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert (folder / MANIFEST).exists()


def diverge(dataset, store, **training):
    finished = set((store / "runs").glob(f"*/{MANIFEST}"))
    with pytest.raises(TrainingError) as caught:
        train_tiny(dataset, store, epochs=4, **training)
    assert set((store / "runs").glob(f"*/{MANIFEST}")) == finished
    assert not list(store.rglob("*.part"))
    videos, _, reason = str(caught.value).partition(": ")
    assert set(videos.split(", ")) <= set(TRAIN)
    return reason


def test_outputs_that_are_not_finite_name_the_videos_and_leave_no_finished_run(tiny, own_store):
    assert "Lower the learning rate" in diverge(tiny, own_store, learning_rate=1e30)


def test_a_loss_that_is_not_finite_names_the_videos_and_leaves_no_finished_run(tiny, own_store, monkeypatch):
    def forward(_self, output, _target):
        return SimpleNamespace(total=output.final.frame_log_probs.sum() * torch.nan)

    monkeypatch.setattr(MatchCriterion, "forward", forward)
    assert diverge(tiny, own_store).startswith("the loss became nan. Lower --learning-rate")


def test_without_features_there_is_nothing_to_train_on(tiny, tmp_path):
    Store(tmp_path / "store")
    with pytest.raises(DatasetError, match=r"None of the 3 training videos can be used; the first: .*a\.mp4"):
        train_tiny(tiny, tmp_path / "store")


def test_a_missing_split_is_an_error_before_anything_is_trained(tiny, tiny_store):
    settings = tiny.settings(tiny_store)
    dataset = settings.dataset.model_copy(update={"split": "split7"})
    with pytest.raises(LabelError, match=r"train\.split7\.bundle"):
        train(settings.model_copy(update={"dataset": dataset}))


def test_the_run_of_some_settings_is_found_again_by_them_or_by_its_first_digits(tiny, tiny_store, tiny_run):
    settings = EvaluateSettings(**dict(tiny.settings(tiny_store)))
    assert find_trained(settings) == tiny_run
    assert find_trained(settings.model_copy(update={"run": tiny_run[:9]})) == tiny_run
    with pytest.raises(MissingArtefactError, match="factseg train"):
        find_trained(EvaluateSettings(**dict(tiny.settings(tiny_store, seed=99))))
    with pytest.raises(MissingArtefactError, match="no finished run starts so"):
        find_trained(settings.model_copy(update={"run": "0" * 64}))


def store_texts(settings, *, scale=1.0):
    """Text embeddings where ``embed_classes`` looks for them."""
    from pipeline.clip_models import tokenizer_identity
    from pipeline.inputs import resolve_extraction
    from pipeline.prompts import prompts_for
    from pipeline.text_models import TEXT_VERSION

    store = Store(settings.store)
    name = settings.text.model
    weights = resolve_extraction(settings.extraction, store=store, text_model=name)[f"clip/{name}"]
    encoder = TextEncoderIdentity(
        model=name, weights_digest=weights.digest, tokenizer=tokenizer_identity(name), version=TEXT_VERSION
    )
    rng = np.random.default_rng(0)
    for label, (prompt,) in zip(CLASSES, prompts_for(CLASSES, text=settings.text), strict=True):
        vector = scale * rng.standard_normal(512).astype(np.float32)
        path = store.text_path(text_key(prompt, encoder=encoder))
        write_text_embedding(path, vector, label=label, prompt=prompt, model=name)


def test_fact_clip_trains_on_stored_texts_and_is_read_back_with_them(tiny, own_store):
    settings = tiny.settings(own_store, model="fact-clip", epochs=2)
    store_texts(settings)
    outcome = train(settings)
    model = load_model(Store(own_store).run_folder(outcome.run), device=torch.device("cpu"))
    assert model.description.kind == "fact-clip"
    assert model.description.text.prompts[1] == "a video of a person who will pour milk"
    assert len(outcome.notes) == 3
    assert train_tiny(tiny, own_store).run != outcome.run


def test_settings_are_kept_with_the_run(tiny_store, tiny_run):
    kept = json.loads((Store(tiny_store).run_folder(tiny_run) / "settings.json").read_text())
    assert kept["training"]["model"] == "fact"
    assert os.fspath(tiny_store) == kept["store"]
