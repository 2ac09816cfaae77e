"""Labels go out to the formats of other tools and come back the same, whatever classes are called."""

import csv
import json
import random
import string
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pytest
from defusedxml.ElementTree import fromstring
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset import dataset_classes, dataset_split, survey_part
from pipeline.errors import DatasetError, LabelError, SettingsError
from pipeline.export import export, exported_labels, exported_predictions
from pipeline.export_formats import write_export
from pipeline.import_labels import LabelSource, import_labels
from pipeline.inputs import inputs_of_run
from pipeline.label_rows import ReadingRules
from pipeline.label_text import join_words
from pipeline.segment import segment_batch
from pipeline.settings import DatasetSettings, RunSettings, SegmentSettings
from storage.errors import MissingArtefactError
from storage.segments import Segment, read_segments
from storage.store import Store
from tests.pipeline.tiny import CLASSES, TRAIN

FPS = 25.0

SPECIAL = [
    "pour milk",
    'a "quoted", name',
    "<script>alert('x')</script>",
    "crème & brûlée",
    "茶 を 注ぐ",
    "-->",
    "=1+1",
]
names = st.one_of(
    st.sampled_from(SPECIAL),
    st.text(
        st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="\ufffe\uffff"),
        min_size=1,
    )
    .map(str.strip)
    .filter(bool),
)


@st.composite
def labelled(draw, *, gapped=True):
    """Segments of one video, touching or, where allowed, with gaps between."""
    labels = draw(st.lists(names, min_size=1, max_size=6))
    start = draw(st.integers(0, 3)) if gapped else 0
    segments = []
    for index, label in enumerate(labels):
        end = start + draw(st.integers(1, 40))
        if gapped or index == 0 or label != segments[-1].label:
            segments.append(segment("v", start, end, label))
            start = end + (draw(st.integers(0, 3)) if gapped else 0)
    return segments


def segment(video, start, end, label, *, fps=FPS):
    return Segment(
        video=video,
        start_frame=start,
        end_frame=end,
        start_seconds=start / fps,
        end_seconds=end / fps,
        label=label,
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("labels") / "store")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A new folder at every call."""
    return lambda: tmp_path_factory.mktemp("out")


def write(segments, form, target, *, blank_as=""):
    classes = sorted({one.label for one in segments})
    made = write_export(
        {"v": segments}, form=form, folder=target, classes=classes, blank_as=blank_as, metadata={}
    )
    assert not made.failed
    return [path for path in made.files if path.name != "mapping.txt"]


def read(paths, form, store, **given):
    made = import_labels(LabelSource(paths=tuple(paths), format=form, **given), name="back", store=store)
    return read_segments(store.label_path(made.dataset.recordings["v"].labels))[0]


def plain(segments):
    return [(one.start_frame, one.end_frame, one.label) for one in segments]


@pytest.mark.parametrize("form", ["csv", "json", "vtt", "elan"])
@given(segments=labelled())
@settings(max_examples=25, deadline=None)
def test_segments_come_back_from_every_format(form, segments, store, folder):
    back = read(write(segments, form, folder()), form, store, fps=FPS)
    assert plain(back) == plain(segments)
    for one, other in zip(back, segments, strict=True):
        assert (one.start_seconds, one.end_seconds) == pytest.approx((other.start_seconds, other.end_seconds))


@given(segments=labelled())
@settings(max_examples=20, deadline=None)
def test_parquet_is_read_by_others(segments, folder):
    (path,) = write(segments, "parquet", folder())
    assert read_segments(path)[0] == segments
    found = duckdb.read_parquet(str(path)).project("start_frame, end_frame, class").order("start_frame")
    rows = found.fetchall()
    assert rows == plain(segments)


@given(segments=labelled(gapped=False))
@settings(max_examples=25, deadline=None)
def test_recognition_files_come_back_with_a_sign_for_blanks_or_are_refused(segments, store, folder):
    classes = tuple(sorted({one.label for one in segments}))
    target = folder()
    words = {"_".join(name.split()) for name in classes}
    if len(words) < len(classes):
        with pytest.raises(LabelError, match="Give another sign"):
            write(segments, "mstcn", target, blank_as="_")
        return
    paths = write(segments, "mstcn", target, blank_as="_")
    back = read(paths, "recognition", store, rules=ReadingRules(classes=classes, blank_as="_"))
    assert plain(back) == plain(segments)
    # As the published scripts read it: the second line, split at white space, a word per frame.
    lines = paths[0].read_text(encoding="utf-8").split("\n")
    assert lines[0] == "### Frame level recognition: ###"
    assert len(lines[1].split()) == segments[-1].end_frame
    mapping = (target / "mapping.txt").read_text(encoding="utf-8").splitlines()
    assert len(mapping) == len(classes)


def ways_to_join(words, classes):
    """By brute force: every way to read words as class names."""
    if not words:
        return [[]]
    found = []
    for name in classes:
        parts = name.split()
        if words[: len(parts)] == parts:
            found += [[name, *rest] for rest in ways_to_join(words[len(parts) :], classes)]
    return found


@given(
    classes=st.lists(
        st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map(" ".join),
        min_size=1,
        max_size=4,
        unique=True,
    ),
    words=st.lists(st.sampled_from("ab"), min_size=1, max_size=8),
)
def test_words_are_joined_where_there_is_one_way_and_refused_where_there_are_more(classes, words):
    ways = ways_to_join(words, classes)
    if len(ways) == 1:
        assert join_words(words, classes, blank_as="", source=Path("x")) == ways[0]
    else:
        message = "more than one way" if ways else "begins no class of the mapping"
        with pytest.raises(LabelError, match=message):
            join_words(words, classes, blank_as="", source=Path("x"))


def test_a_blank_in_a_name_stops_a_recognition_file_and_is_named(folder):
    made = write_export(
        {"v": [segment("v", 0, 3, "pour milk")], "w": [segment("w", 0, 3, "stir")]},
        form="mstcn",
        folder=folder(),
        classes=("pour milk", "stir"),
        metadata={},
    )
    assert list(made.failed) == ["v"]
    assert "class 'pour milk' holds a blank" in made.failed["v"]
    assert "--blank-as _" in made.failed["v"]
    assert [path.name for path in made.files] == ["w"]


@pytest.mark.parametrize("form", ["mstcn", "csv", "json", "vtt", "elan", "parquet"])
@pytest.mark.parametrize(
    ("video", "label"), [("v", "a\nb"), ("v", "a\x00b"), ("../v", "a"), ("a/b", "a"), ("..", "a")]
)
def test_line_ends_in_labels_and_paths_in_ids_are_refused(form, video, label, folder):
    target = folder()
    made = write_export(
        {video: [segment(video, 0, 3, label)]}, form=form, folder=target / "in", classes=(label,), metadata={}
    )
    assert list(made.failed) == [video]
    assert not [path for path in target.rglob("*") if path.is_file() and "segments" not in path.name]


def test_gaps_are_filled_with_the_class_that_was_named(store, folder):
    rows = [segment("v", 2, 5, "stir"), segment("v", 5, 7, "pour"), segment("v", 9, 10, "stir")]
    paths = write(rows, "csv", folder())
    back = read(paths, "csv", store, gaps="rest")
    assert plain(back) == [(0, 2, "rest"), (2, 5, "stir"), (5, 7, "pour"), (7, 9, "rest"), (9, 10, "stir")]


@pytest.mark.parametrize(
    ("base", "end", "line", "expected"),
    [
        (0, "exclusive", "0 30 stir", (0, 30)),
        (0, "inclusive", "0 29 stir", (0, 30)),
        (1, "inclusive", "1 30 stir", (0, 30)),
        (1, "exclusive", "1 31 stir", (0, 30)),
    ],
)
def test_the_user_says_how_ranges_count(tmp_path, store, *, base, end, line, expected):
    path = tmp_path / "v.txt"
    path.write_bytes(f"{line} tea\r\n".encode("latin-1"))
    (back,) = read([path], "ranges", store, rules=ReadingRules(base=base, end=end))
    assert (back.start_frame, back.end_frame, back.label) == (*expected, "stir tea")


def test_ranges_without_a_word_on_counting_are_refused(tmp_path, store):
    (tmp_path / "v.txt").write_text("0 30 stir\n")
    with pytest.raises(DatasetError, match="Give --base 0 or 1 and --end inclusive or exclusive"):
        read([tmp_path / "v.txt"], "ranges", store)


def test_seconds_follow_the_time_stamps_of_the_video(tiny, tmp_path, store):
    text = "video,start,end,label\na.mp4,0,1.04,stir\na.mp4,1.04,5.98,pour milk\n"
    (tmp_path / "all.csv").write_text(text)
    source = LabelSource(
        paths=(tmp_path / "all.csv",),
        format="csv",
        rules=ReadingRules(unit="seconds"),
        videos=tiny.root / "videos",
        gaps="rest",
    )
    made = import_labels(source, name="clock", store=store)
    segments, _ = read_segments(store.label_path(made.dataset.recordings["a"].labels))
    assert plain(segments) == [(0, 10, "stir"), (10, 60, "pour milk")]


def test_via_segments_are_those_of_one_attribute_and_options_are_names(tmp_path, store):
    project = {
        "attribute": {
            "1": {"aname": "action", "options": {"0": "stir", "1": "pour milk"}},
            "2": {"aname": "mood"},
        },
        "file": {"7": {"fname": "kitchen/v.mp4"}},
        "view": {"3": {"fid_list": ["7"]}},
        "metadata": {
            "3_a": {"vid": "3", "z": [0.4, 2.0], "xy": [], "av": {"1": "1"}},
            "3_b": {"vid": "3", "z": [2.0, 3.2], "xy": [], "av": {"1": "0", "2": "calm"}},
            "3_c": {"vid": "3", "z": [1.0], "xy": [2, 1, 1, 5, 5], "av": {"1": "0"}},
        },
    }
    path = tmp_path / "via.json"
    path.write_text(json.dumps(project))
    back = read([path], "via", store, fps=FPS, rules=ReadingRules(tier="action"))
    assert plain(back) == [(10, 50, "pour milk"), (50, 80, "stir")]
    with pytest.raises(DatasetError, match="has attributes action, mood; one is needed"):
        read([path], "via", store, fps=FPS)


def test_label_studio_ranges_count_from_one_and_tracks_in_seconds(tmp_path, store):
    def task(*result):
        return [{"data": {"video": "/data/upload/1/v.mp4?d=x"}, "annotations": [{"result": list(result)}]}]

    path = tmp_path / "ls.json"
    ranges = {"ranges": [{"start": 1, "end": 25}], "timelinelabels": ["stir"]}
    more = {"ranges": [{"start": 26, "end": 26}], "timelinelabels": ["pour milk"]}
    path.write_text(json.dumps(task({"type": "timelinelabels", "value": ranges}, {"value": more})))
    assert plain(read([path], "labelstudio", store)) == [(0, 25, "stir"), (25, 26, "pour milk")]
    track = {"start": 1.0, "end": 2.0, "labels": ["stir"]}
    path.write_text(json.dumps(task({"type": "labels", "value": track})))
    assert plain(read([path], "labelstudio", store, fps=FPS)) == [(25, 50, "stir")]


def test_webvtt_of_others_has_notes_tags_names_and_short_times(tmp_path, store):
    (tmp_path / "v.vtt").write_bytes(
        b"\xef\xbb\xbfWEBVTT - actions\r\n\r\nNOTE not\r\n00:00.000 --> 00:01.000\r\n\r\nSTYLE\r\n::cue {}\r\n\r\n"
        b"intro\r\n00:01.000 --> 00:02.000 align:start\r\n<v Ann>pour &lt;milk&gt;</v>\r\n"
    )
    assert plain(read([tmp_path / "v.vtt"], "vtt", store, fps=FPS)) == [(25, 50, "pour <milk>")]


def elan(*annotations, tiers=1, times=("0", "1000")):
    slots = "".join(f'<TIME_SLOT TIME_SLOT_ID="t{i}" TIME_VALUE="{value}"/>' for i, value in enumerate(times))
    one = "".join(
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{i}" TIME_SLOT_REF1="t0" TIME_SLOT_REF2="t1">'
        f"<ANNOTATION_VALUE>{label}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
        for i, label in enumerate(annotations)
    )
    body = "".join(f'<TIER TIER_ID="tier{i}" LINGUISTIC_TYPE_REF="x">{one}</TIER>' for i in range(tiers))
    return f"<ANNOTATION_DOCUMENT><TIME_ORDER>{slots}</TIME_ORDER>{body}</ANNOTATION_DOCUMENT>"


BOMB = '<!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>' + elan("&b;")


@pytest.mark.parametrize(
    ("form", "content", "expected"),
    [
        ("elan", elan("stir")[:-9], "is no safe XML"),
        ("elan", BOMB, "is no safe XML"),
        ("elan", "<html/>", "its root is 'html', not that of ELAN"),
        (
            "elan",
            elan("stir", tiers=2),
            "has tiers tier0, tier1 with annotations; one is needed. Name it with --tier",
        ),
        ("elan", elan("stir", times=("5", "")), "annotation a0: has no time in milliseconds"),
        ("elan", elan(""), "annotation a0: the label is empty"),
        (
            "csv",
            "start_frame,end_frame,class\n0,3,a\n5,5,b\n",
            "bad, line 3: from 5 to 5 frames there is nothing",
        ),
        ("csv", "start_frame,end_frame,class\n0,x,a\n", "line 2: end_frame is 'x', no number"),
        ("csv", "start,end,class\n0,1,a\n", "line 2: start and end are of no known unit"),
        ("csv", "begin,end,class\n0,1,a\n", "line 2: has no start, end and class"),
        (
            "csv",
            "start_frame,end_frame,class\n0,3,a\n2,5,b\n",
            "line 3: 'b' starts before 'a' (bad, line 2) ends",
        ),
        ("csv", 'start_frame,end_frame,class\n0,3,"a\nb"\n', "which no label file can keep"),
        ("csv", 'start_frame,end_frame,class\n0,3,"a"b\n', "line 2: no table"),
        ("csv", "start_frame,end_frame,class\n0,nan,a\n", "line 2: from 0 to nan frames there is nothing"),
        ("csv", "start_frame,end_frame,class\n0,1e15,a\n", "line 2: from 0 to 1e+15 frames there is nothing"),
        ("csv", "start_seconds,end_seconds,class\n0,9e7,a\n", "more than a video has"),
        ("json", '[{"start_frame": 0, "end_frame": NaN, "class": "a"}]', "item 1: from 0 to nan frames"),
        (
            "csv",
            "start_seconds,end_seconds,class\n0,nan,a\n",
            "line 2: from 0 to nan seconds there is nothing",
        ),
        ("csv", "start_seconds,end_seconds,class\n0,.01,a\n", "line 2: 0 to 0.01 seconds hold no frame"),
        (
            "csv",
            "video,start_frame,end_frame,class\n../b,0,1,a\n",
            "line 2: '../b' cannot be the id of a video",
        ),
        ("csv", "", "holds no segment"),
        ("json", "{", "is no JSON"),
        ("json", "{}", "is no list"),
        ("json", "[3]", "item 1: is no segment"),
        ("json", "[" * 100_000, "is no JSON"),
        (
            "json",
            '[{"segments": [{"start": 0, "end": 1}]}]',
            "item 1, segment 1: has no start, end and class",
        ),
        ("via", "[]", "is no project of VIA 3"),
        ("labelstudio", "[{}]", "task 1: is no task of Label Studio"),
        ("vtt", "00:01.000 --> 00:02.000\na\n", "line 1: '00:01.000 --> 00:02.000' is not 'WEBVTT'"),
        ("vtt", "WEBVTT\n\n00:01 --> 1\na\n", "line 3: '1' is no time"),
        ("ranges", "0 x stir\n", "line 1: '0 x stir' is not `start end label`"),
        ("recognition", "stir stir", "line 1: 'stir stir' is not '### Frame level recognition: ###'"),
        ("mstcn", "stir\n\nstir\n", "line 2: the label is empty"),
    ],
)
def test_a_malformed_file_gives_one_line_with_file_place_and_remedy_and_the_others_go_in(
    tmp_path, store, form, content, expected
):
    good = tmp_path / "good"
    good.write_text(GOOD[form])
    (tmp_path / "bad").write_text(content)
    rules = ReadingRules(base=0, end="exclusive")
    source = LabelSource(paths=(tmp_path / "bad", good), format=form, rules=rules, fps=FPS)
    made = import_labels(source, name="mixed", store=store)
    (failed,) = [outcome for outcome in made.outcomes if outcome.status == "failed"]
    assert expected in failed.reason.replace(f"{tmp_path}/", "")
    assert str(tmp_path / "bad") in failed.reason
    assert "\n" not in failed.reason
    assert len(made.dataset.recordings) == 1


GOOD = {
    "elan": elan("stir"),
    "csv": "video,start_frame,end_frame,class\ngood,0,3,stir\n",
    "json": '[{"video": "good", "start_frame": 0, "end_frame": 3, "class": "stir"}]',
    "via": json.dumps(
        {
            "attribute": {"1": {"aname": "action"}},
            "file": {"1": {"fname": "good.mp4"}},
            "view": {"1": {"fid_list": ["1"]}},
            "metadata": {"1_a": {"vid": "1", "z": [0, 2], "xy": [], "av": {"1": "stir"}}},
        }
    ),
    "labelstudio": json.dumps(
        [
            {
                "data": {"video": "good.mp4"},
                "annotations": [{"result": [{"value": {"start": 0, "end": 1, "labels": ["stir"]}}]}],
            }
        ]
    ),
    "vtt": "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nstir\n",
    "ranges": "0 3 stir\n",
    "recognition": "### Frame level recognition: ###\nstir stir",
    "mstcn": "stir\nstir\n",
}


def test_random_bytes_never_break_a_reader(tmp_path, store):
    rng = random.Random(0)
    refused = []
    for form, good in GOOD.items():
        for number in range(40):
            raw = bytearray(good.encode())
            for _ in range(rng.randint(1, 8)):
                place = rng.randrange(len(raw))
                raw[place : place + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
            path = tmp_path / f"{form}{number}"
            path.write_bytes(raw)
            source = LabelSource(
                paths=(path,), format=form, rules=ReadingRules(base=0, end="exclusive"), fps=FPS
            )
            try:
                import_labels(source, name="noise", store=store)
            except DatasetError as error:
                refused.append(str(error))
    assert len(refused) > 100
    assert all(str(tmp_path) in reason and "\n" not in reason for reason in refused)


def test_labels_of_one_video_in_two_files_are_refused(tmp_path, store):
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(GOOD["csv"])
    made = import_labels(LabelSource(paths=(tmp_path,), format="csv"), name="twice", store=store)
    (failed,) = [outcome for outcome in made.outcomes if outcome.status == "failed"]
    assert "b.csv: video 'good' has labels in" in failed.reason


def test_a_mapping_decides_the_order_and_refuses_unknown_classes(tmp_path, store):
    (tmp_path / "v.txt").write_text("stir\nstri\n")
    (tmp_path / "w.txt").write_text("stir\n")
    rules = ReadingRules(classes=("stir", "pour"))
    made = import_labels(LabelSource(paths=(tmp_path,), format="mstcn", rules=rules), name="m", store=store)
    assert made.dataset.classes == ("stir", "pour")
    (failed,) = [outcome for outcome in made.outcomes if outcome.status == "failed"]
    assert "v.txt, line 2: class 'stri' is not in the mapping (nearest: 'stir')" in failed.reason


def test_formats_of_seconds_need_a_rate(tmp_path, store):
    (tmp_path / "v.txt").write_text("stir\n" * 5 + "pour\n" * 5)
    import_labels(LabelSource(paths=(tmp_path,), format="mstcn"), name="untimed", store=store)
    what = exported_labels("untimed", store=store)
    with pytest.raises(SettingsError, match="Give --fps"):
        export(what, form="vtt", folder=tmp_path / "out")
    made = export(what, form="vtt", folder=tmp_path / "out", fps=10)
    assert "00:00:00.500 --> 00:00:01.000\npour" in made.files[0].read_text()


def test_elan_files_have_what_its_schema_requires(folder):
    (path,) = write([segment("v", 0, 25, "a & b")], "elan", folder())
    root = fromstring(path.read_bytes())
    assert [child.tag for child in root] == ["HEADER", "TIME_ORDER", "TIER", "LINGUISTIC_TYPE"]
    assert {"AUTHOR", "DATE", "VERSION"} <= set(root.attrib)
    assert [slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")] == ["0", "1000"]
    assert root.findtext(".//ANNOTATION_VALUE") == "a & b"
    types = {one.get("LINGUISTIC_TYPE_ID") for one in root.iter("LINGUISTIC_TYPE")}
    assert {tier.get("LINGUISTIC_TYPE_REF") for tier in root.iter("TIER")} <= types


def test_csv_is_one_table_that_others_read(folder):
    (path,) = write([segment("v", 0, 25, 'a "b", c')], "csv", folder())
    with path.open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["class"] == 'a "b", c'
    assert (row["start_frame"], row["end_seconds"]) == ("0", "1.0")


def test_mstcn_label_files_come_in_whatever_ends_their_lines(tmp_path, store):
    labels = [random.Random(3).choice(string.ascii_lowercase[:3]) for _ in range(50)]
    for index, ending in enumerate(("\n", "\r\n", "\r")):
        path = tmp_path / str(index) / "v.txt"
        path.parent.mkdir()
        path.write_bytes(ending.join([*labels, "crème brûlée"]).encode("latin-1"))
        back = read([path], "mstcn", store)
        found = [one.label for one in back for _ in range(one.start_frame, one.end_frame)]
        assert found == [*labels, "crème brûlée"]
        assert all(one.end_frame == other.start_frame for one, other in pairwise(back))
        assert np.all([one.label != other.label for one, other in pairwise(back)])


def test_imported_labels_are_those_of_the_videos_they_are_trained_with(tiny, own_store):
    names = [path.stem for path in sorted((tiny.root / "labels").glob("*.txt"))]
    lines = ["video,start_seconds,end_seconds,class"]
    for name in names:
        labels = tiny.labels_of(name)
        cuts = [0, *(np.flatnonzero(np.diff(labels)) + 1), len(labels)]
        lines += [f"{name},{start / 10},{end / 10},{CLASSES[labels[start]]}" for start, end in pairwise(cuts)]
    (own_store.parent / "all.csv").write_text("\n".join(lines))
    store = Store(own_store)
    source = LabelSource(
        paths=(own_store.parent / "all.csv",),
        format="csv",
        videos=tiny.root / "videos",
        splits=tiny.root / "splits",
    )
    import_labels(source, name="tiny", store=store)
    dataset = DatasetSettings(imported="tiny", videos=tiny.root / "videos")
    assert dataset_split(dataset, store=store).train == TRAIN
    classes = dataset_classes(dataset, store=store)
    assert classes.names == tuple(sorted(CLASSES))
    inputs = inputs_of_run(tiny.settings(own_store).model_copy(update={"dataset": dataset}), store=store)
    survey = survey_part(TRAIN, dataset=dataset, inputs=inputs, classes=classes, store=store)
    assert len(survey.sources) == len(TRAIN)
    for found in survey.sources:
        expected = [CLASSES[label] for label in tiny.labels_of(found.video.id)]
        assert [classes.names[label] for label in found.labels] == expected
    only_labels = RunSettings(store=own_store, dataset=DatasetSettings(imported="tiny"))
    with pytest.raises(DatasetError, match="has labels and no features"):
        inputs_of_run(only_labels, store=store)


@pytest.mark.usefixtures("single_thread")
def test_predictions_of_a_run_are_exported_as_they_are_stored(tiny, tiny_run, own_store, tmp_path):
    store = Store(own_store)
    with pytest.raises(MissingArtefactError, match="predicted nothing yet"):
        exported_predictions(run=tiny_run, model="", store=store)
    videos = tuple(tiny.root / "videos" / f"{name}.mp4" for name in ("x", "y"))
    made = segment_batch(
        videos, settings=SegmentSettings(videos=videos, store=own_store, device="cpu"), run=tiny_run
    )
    what = exported_predictions(run=tiny_run[:12], model="", store=store)
    assert what.classes == CLASSES
    assert sorted(what.videos) == ["x", "y"]
    for one in made:
        assert what.videos[one.outcome.video] == read_segments(store.prediction_path(one.prediction))[0]
    (path,) = export(what, form="json", folder=tmp_path / "out").files
    listed = json.loads(path.read_text(encoding="utf-8"))
    assert sorted(video["video"] for video in listed) == ["x", "y"]
    assert all(0 <= row["score"] <= 1 for video in listed for row in video["segments"])
