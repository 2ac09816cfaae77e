"""Scores are held against the published evaluator's numbers, a slow second implementation and properties."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import LabelError
from pipeline.metrics import (
    IOU_PERCENTS,
    Convention,
    LabelledPrediction,
    Scores,
    evaluate,
    evaluate_subset,
    segment_bounds,
    stretch,
)

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "metrics" / "fact_evaluator.json").read_text(encoding="utf-8")
)
NAMES = ("background", "reach", "grasp", "place")


def video(truth: list[int], predicted: list[int], video_id: str = "v") -> LabelledPrediction:
    return LabelledPrediction(
        video_id=video_id,
        truth=np.array(truth, dtype=np.int64),
        predicted=np.array(predicted, dtype=np.int64),
    )


def golden_videos(case: dict[str, Any]) -> list[LabelledPrediction]:
    return [
        LabelledPrediction(
            video_id=item["name"],
            truth=np.array(item["ground_truth"], dtype=np.int64),
            predicted=stretch(np.array(item["predicted"], dtype=np.int64), len(item["ground_truth"])),
        )
        for item in case["videos"]
    ]


def golden_names(case: dict[str, Any]) -> list[str]:
    labels = [label for item in case["videos"] for label in (*item["ground_truth"], *item["predicted"])]
    return [f"class {index}" for index in range(case.get("n_classes", max(labels) + 1))]


def id_of(case: dict[str, Any]) -> str:
    return str(case.get("name", f"{len(case['videos'])} videos"))


# --- a second implementation, frame by frame and pair by pair ---------------------------------------------


@dataclass
class Segment:
    label: int
    start: int
    end: int


def slow_segments(labels: list[int], dropped: set[int]) -> list[Segment]:
    segments: list[Segment] = []
    for position, label in enumerate(labels):
        if segments and segments[-1].label == label:
            segments[-1].end = position + 1
        else:
            segments.append(Segment(label, position, position + 1))
    return [segment for segment in segments if segment.label not in dropped]


def slow_iou(a: Segment, b: Segment) -> float:
    frames_a, frames_b = set(range(a.start, a.end)), set(range(b.start, b.end))
    return len(frames_a & frames_b) / len(frames_a | frames_b)


def slow_counts(truth: list[Segment], predicted: list[Segment], threshold: float) -> tuple[int, int, int]:
    taken: set[int] = set()
    false_positives = 0
    for segment in predicted:
        rivals = [(slow_iou(segment, t), -i) for i, t in enumerate(truth) if t.label == segment.label]
        best_iou, minus_index = max(rivals, default=(0.0, 0))
        if best_iou >= threshold and -minus_index not in taken:
            taken.add(-minus_index)
        else:
            false_positives += 1
    return len(taken), false_positives, len(truth) - len(taken)


def slow_f1(
    videos: list[tuple[list[int], list[int]]], dropped: set[int], percent: int, epsilon: float
) -> float:
    tp = fp = fn = 0
    for truth, predicted in videos:
        counts = slow_counts(slow_segments(truth, dropped), slow_segments(predicted, dropped), percent / 100)
        tp, fp, fn = tp + counts[0], fp + counts[1], fn + counts[2]
    if tp + fp + fn == 0:
        return 100.0
    precision = tp / (tp + fp + epsilon) if tp + fp else 0.0
    recall = tp / (tp + fn + epsilon) if tp + fn else 0.0
    return 200 * precision * recall / (precision + recall + epsilon) if tp else 0.0


def slow_edit(truth: list[int], predicted: list[int]) -> float:
    table = [[max(i, j) for j in range(len(predicted) + 1)] for i in range(len(truth) + 1)]
    for i in range(1, len(truth) + 1):
        for j in range(1, len(predicted) + 1):
            swap = table[i - 1][j - 1] + (truth[i - 1] != predicted[j - 1])
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, swap)
    longer = max(len(truth), len(predicted))
    return 100.0 if longer == 0 else 100.0 * (1 - table[-1][-1] / longer)


def slow_over_segmentation(videos: list[tuple[list[int], list[int]]], dropped: set[int]) -> float:
    surplus = total = 0
    for truth, predicted in videos:
        for segment in slow_segments(truth, dropped):
            touching = [
                p
                for p in slow_segments(predicted, dropped)
                if p.label == segment.label and slow_iou(p, segment) > 0
            ]
            surplus += max(len(touching) - 1, 0)
            total += 1
    return 100.0 * surplus / max(total, 1)


@st.composite
def labelled_videos(draw: st.DrawFn) -> list[LabelledPrediction]:
    """Videos made of runs, so that segments overlap in many ways."""

    def runs(length: int) -> list[int]:
        labels: list[int] = []
        while len(labels) < length:
            labels += [draw(st.integers(0, len(NAMES) - 1))] * draw(st.integers(1, 6))
        return labels[:length]

    lengths = draw(st.lists(st.integers(1, 30), min_size=1, max_size=4))
    return [video(runs(length), runs(length), f"v{index}") for index, length in enumerate(lengths)]


def plain(videos: list[LabelledPrediction]) -> list[tuple[list[int], list[int]]]:
    return [(v.truth.tolist(), v.predicted.tolist()) for v in videos]


# --- the published evaluator -------------------------------------------------------------------------------


@pytest.mark.parametrize("case", GOLDEN["random"] + GOLDEN["edge"], ids=id_of)
def test_fact_convention_gives_the_published_evaluators_scores(case):
    scores = evaluate(
        golden_videos(case), class_names=golden_names(case), background=case["background"], convention="fact"
    )
    expected = case["expected"]
    assert scores.frame_accuracy == pytest.approx(expected["AccB"], abs=1e-6)
    foreground = scores.frame_accuracy if scores.foreground_accuracy is None else scores.foreground_accuracy
    assert foreground == pytest.approx(expected["Acc"], abs=1e-6)
    assert scores.edit == pytest.approx(expected["Edit"], abs=1e-6)
    for percent in IOU_PERCENTS:
        assert scores.f1[percent] == pytest.approx(expected[f"F1@0.{percent}"], abs=1e-6)


@pytest.mark.parametrize("case", [case for case in GOLDEN["random"] if case["holdout"]], ids=id_of)
def test_subsets_give_the_published_evaluators_seen_and_unseen_scores(case):
    unseen = set(case["holdout"])
    seen = set(range(case["n_classes"])) - unseen
    for name, classes in (("seen", seen), ("unseen", unseen)):
        scores = evaluate_subset(
            golden_videos(case),
            classes=classes,
            class_names=golden_names(case),
            background=case["background"],
            convention="fact",
        )
        assert scores.frame_accuracy == pytest.approx(case["expected"][f"Acc-{name}"], abs=1e-6)
        assert scores.foreground_accuracy == pytest.approx(case["expected"][f"AccFG-{name}"], abs=1e-6)
        if name == "seen":
            for percent in IOU_PERCENTS:
                assert scores.f1[percent] == pytest.approx(case["expected"][f"F1@0.{percent}-seen"], abs=1e-6)


# --- the second implementation -----------------------------------------------------------------------------


@given(labelled_videos(), st.sampled_from(["mstcn", "fact"]))
def test_scores_agree_with_the_slow_implementation(videos, convention: Convention):
    scores = evaluate(videos, class_names=NAMES, background=[0], convention=convention)
    pairs = plain(videos)
    frames = [pair for truth, predicted in pairs for pair in zip(truth, predicted, strict=True)]
    assert scores.frame_accuracy == pytest.approx(100 * np.mean([t == p for t, p in frames]))
    foreground = [t == p for t, p in frames if t != 0]
    if foreground:
        assert scores.foreground_accuracy == pytest.approx(100 * np.mean(foreground))
    else:
        assert scores.foreground_accuracy is None
    edits = [
        slow_edit([s.label for s in slow_segments(t, {0})], [s.label for s in slow_segments(p, {0})])
        for t, p in pairs
    ]
    assert scores.edit == pytest.approx(np.mean(edits))
    epsilon = {"mstcn": 0.0, "fact": 1e-5}[convention]
    for percent in IOU_PERCENTS:
        assert scores.f1[percent] == pytest.approx(slow_f1(pairs, {0}, percent, epsilon))
    assert scores.over_segmentation == pytest.approx(slow_over_segmentation(pairs, {0}))


@given(labelled_videos())
def test_class_scores_agree_with_counting_frames(videos):
    frames = [pair for t, p in plain(videos) for pair in zip(t, p, strict=True)]
    for score in evaluate(videos, class_names=NAMES).per_class:
        true_frames = {i for i, (t, _) in enumerate(frames) if t == score.class_id}
        predicted_frames = {i for i, (_, p) in enumerate(frames) if p == score.class_id}
        both, either = len(true_frames & predicted_frames), len(true_frames | predicted_frames)
        assert (score.support, score.predicted) == (len(true_frames), len(predicted_frames))
        for value, whole in (
            (score.precision, len(predicted_frames)),
            (score.recall, len(true_frames)),
            (score.iou, either),
        ):
            assert value == (pytest.approx(100 * both / whole) if whole else None)
        assert score.f1 == (pytest.approx(200 * both / (either + both)) if either else None)


# --- properties --------------------------------------------------------------------------------------------


@given(labelled_videos())
def test_truth_scored_against_itself_is_perfect(videos):
    same = [video(truth, truth, v.video_id) for v, (truth, _) in zip(videos, plain(videos), strict=True)]
    scores = evaluate(same, class_names=NAMES)
    assert (scores.frame_accuracy, scores.edit, scores.over_segmentation) == (100.0, 100.0, 0.0)
    assert scores.f1 == {10: 100.0, 25: 100.0, 50: 100.0}


@given(labelled_videos(), st.randoms())
def test_the_order_of_videos_does_not_matter(videos, random):
    shuffled = random.sample(videos, len(videos))
    first, second = (evaluate(v, class_names=NAMES) for v in (videos, shuffled))
    assert first.f1 == second.f1
    assert first.edit == pytest.approx(second.edit)
    assert np.array_equal(first.confusion, second.confusion)


@given(labelled_videos(), st.permutations(range(1, len(NAMES))))
def test_renaming_the_classes_does_not_change_the_scores(videos, permutation):
    renamed_as = np.array([0, *permutation])
    renamed = [
        LabelledPrediction(video_id=v.video_id, truth=renamed_as[v.truth], predicted=renamed_as[v.predicted])
        for v in videos
    ]
    first, second = (evaluate(v, class_names=NAMES) for v in (videos, renamed))
    assert (first.f1, first.edit) == (second.f1, second.edit)


@given(labelled_videos(), st.integers(2, 4))
def test_repeating_every_frame_does_not_change_the_scores(videos, times):
    longer = [
        LabelledPrediction(
            video_id=v.video_id, truth=np.repeat(v.truth, times), predicted=np.repeat(v.predicted, times)
        )
        for v in videos
    ]
    first, second = (evaluate(v, class_names=NAMES) for v in (videos, longer))
    assert (first.f1, first.edit) == (second.f1, second.edit)
    assert first.frame_accuracy == pytest.approx(second.frame_accuracy)


@given(labelled_videos())
def test_per_video_scores_are_those_of_each_video_alone(videos):
    together = evaluate(videos, class_names=NAMES).per_video
    alone = [evaluate([v], class_names=NAMES).per_video[0] for v in videos]
    assert list(together) == alone


@given(labelled_videos())
def test_a_higher_overlap_finds_no_more_segments(videos):
    f1 = evaluate(videos, class_names=NAMES).f1
    assert f1[10] >= f1[25] >= f1[50]


@given(labelled_videos())
def test_the_subset_of_all_classes_scores_as_all(videos):
    whole = evaluate(videos, class_names=NAMES)
    subset = evaluate_subset(videos, classes=range(len(NAMES)), class_names=NAMES)
    assert subset.frame_accuracy == pytest.approx(whole.frame_accuracy)
    assert subset.foreground_accuracy == whole.foreground_accuracy
    assert {p: 100.0 if f is None else f for p, f in subset.f1.items()} == whole.f1


# --- rules, one by one -------------------------------------------------------------------------------------


def test_mstcn_background_goes_by_name_and_not_by_id():
    videos = [video([0, 0, 1, 1], [1, 1, 1, 1])]
    named = evaluate(videos, class_names=["background", "reach"], background=[])
    unnamed = evaluate(videos, class_names=["idle", "reach"], background=[0])
    assert (named.background, unnamed.background) == ((0,), ())
    assert named.foreground_accuracy == 100.0
    assert unnamed.foreground_accuracy is None
    assert (named.edit, unnamed.edit) == (100.0, 50.0)


def test_the_last_segment_ends_after_the_last_frame():
    # One frame short (as in the script of 2019) the overlap would be 1 of 3 and not 2 of 4.
    scores = evaluate([video([1, 1, 2, 2, 2, 2], [1, 1, 1, 1, 2, 2])], class_names=NAMES)
    assert scores.per_video[0].f1[50] == 100.0


def test_a_second_prediction_of_the_same_segment_is_a_false_positive():
    scores = evaluate([video([1] * 10, [1] * 5 + [2] + [1] * 4)], class_names=NAMES)
    assert scores.f1[25] == pytest.approx(100 * 2 * 1 / (2 * 1 + 2 + 0))


def test_a_prediction_in_a_video_without_truth_is_a_false_positive():
    scores = evaluate([video([0, 0], [1, 1], "a"), video([1, 1], [1, 1], "b")], class_names=NAMES)
    assert scores.f1[10] == pytest.approx(100 * 2 / 3)
    assert scores.per_video[0].edit == 0.0


def test_nothing_to_find_and_nothing_found_is_perfect():
    for convention in ("mstcn", "fact"):
        scores = evaluate([video([0, 0], [0, 0])], class_names=NAMES, background=[0], convention=convention)
        assert (scores.edit, scores.f1[50], scores.over_segmentation) == (100.0, 100.0, 0.0)
        assert scores.foreground_accuracy is None


def test_a_prediction_of_background_alone_scores_nothing():
    scores = evaluate([video([1, 1, 2], [0, 0, 0])], class_names=NAMES)
    assert (scores.edit, scores.f1[10], scores.foreground_accuracy) == (0.0, 0.0, 0.0)


def test_one_frame_is_a_video():
    scores = evaluate([video([2], [2])], class_names=NAMES)
    assert (scores.frame_accuracy, scores.edit, scores.f1[50]) == (100.0, 100.0, 100.0)


def test_unseen_false_positives_count_in_videos_without_unseen_truth():
    videos = [video([3, 3], [3, 3], "a"), video([1, 1], [3, 3], "b")]
    assert evaluate_subset(videos, classes=[3], class_names=NAMES).f1[50] == pytest.approx(100 * 2 / 3)


def test_a_subset_that_never_occurs_has_no_score():
    scores = evaluate_subset([video([1], [1])], classes=[2], class_names=NAMES)
    assert scores.frame_accuracy is None
    assert scores.f1 == {10: None, 25: None, 50: None}


def test_over_segmentation_counts_surplus_pieces_per_true_segment():
    scores = evaluate([video([1] * 7 + [2] * 3, [1, 2, 1, 3, 1, 1, 1, 2, 2, 2])], class_names=NAMES)
    assert scores.over_segmentation == 100.0 * 2 / 2


def test_confusion_has_the_truth_in_rows():
    confusion = evaluate([video([1, 1, 2], [2, 1, 2])], class_names=NAMES).confusion
    assert confusion.dtype == np.int64
    assert (confusion[1, 2], confusion[2, 1], confusion.sum()) == (1, 0, 3)


def test_scores_become_json_and_keep_every_field():
    scores = evaluate([video([1, 2], [1, 1])], class_names=NAMES)
    found = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert set(found) == set(Scores.__dataclass_fields__) - {"counts"} | {"num_frames"}
    assert found["f1"]["50"] == scores.f1[50]
    assert found["per_video"][0]["video_id"] == "v"
    assert found["confusion"] == scores.confusion.tolist()


def test_stretch_repeats_by_the_floor_rule():
    predicted = np.array([3, 1, 2], dtype=np.int64)
    assert stretch(predicted, 8).tolist() == [predicted[int(np.floor(i * 3 / 8))] for i in range(8)]


def test_segment_bounds_start_each_run_and_end_at_the_length():
    assert segment_bounds(np.array([4, 4, 1, 4])).tolist() == [0, 2, 3, 4]


@pytest.mark.parametrize(("length", "num_frames"), [(0, 5), (6, 5)])
def test_stretch_refuses_what_it_cannot_stretch(length, num_frames):
    with pytest.raises(LabelError, match=f"{length} predicted labels over {num_frames} frames"):
        stretch(np.zeros(length, dtype=np.int64), num_frames)


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (np.zeros(3, dtype=np.int64), np.zeros(2, dtype=np.int64), "3 true labels but 2 predicted"),
        (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), "no frame"),
        (np.zeros((2, 1), dtype=np.int64), np.zeros(2, dtype=np.int64), r"truth must be a row .* \(2, 1\)"),
        (np.zeros(2, dtype=np.int64), np.zeros(2), "predicted must be .* float64"),
    ],
)
def test_labels_that_do_not_fit_are_refused(truth, predicted, message):
    with pytest.raises(LabelError, match=message):
        LabelledPrediction(video_id="v", truth=truth, predicted=predicted)


@pytest.mark.parametrize(
    ("videos", "background", "message"),
    [
        ([], [], "no video"),
        ([video([0], [0], "twin")] * 2, [], "twin .* 2 times"),
        ([video([0], [4], "stray")], [], "stray: labels from 0 to 4"),
        ([video([-1], [0], "stray")], [], "stray: labels from -1"),
        ([video([0], [0])], [9], r"\[9\]"),
    ],
)
def test_videos_that_cannot_be_scored_are_refused(videos, background, message):
    with pytest.raises(LabelError, match=message):
        evaluate(videos, class_names=NAMES, background=background, convention="fact")
