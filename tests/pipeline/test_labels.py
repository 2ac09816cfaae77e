"""Labels: files as people have them are read whole, and every error names the file and the remedy."""

import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import LabelError
from pipeline.labels import ClassList, fit_labels, read_labels, read_mapping, read_split

CLASSES = ClassList(("background", "pour milk", "crème brûlée"))


@pytest.fixture
def write(tmp_path):
    def write_bytes(content, name="labels.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_bytes


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_no_line_is_lost_whatever_ends_it(write, line_end, last):
    path = write(line_end.join(["background", "pour milk", "pour milk"]) + line_end * last)
    assert read_labels(path, classes=CLASSES).tolist() == [0, 1, 1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_names_are_read_in_utf_8_with_or_without_mark_and_in_latin_1(write, encoding):
    path = write("crème brûlée\nbackground\n".encode(encoding))
    assert read_labels(path, classes=CLASSES).tolist() == [2, 0]


def test_labels_are_int64(write):
    assert read_labels(write("background"), classes=CLASSES).dtype == np.int64


def test_blank_lines_at_the_end_are_no_labels(write):
    assert len(read_labels(write("background\npour milk\n\n \r\n"), classes=CLASSES)) == 2


def test_a_blank_line_in_the_middle_is_an_error_that_names_the_line(write):
    path = write("background\n\npour milk\n")
    with pytest.raises(LabelError) as caught:
        read_labels(path, classes=CLASSES)
    assert str(caught.value).startswith(f"{path}, line 2: the line is empty.")


def test_an_unknown_class_is_named_with_file_line_nearest_class_and_remedy(write):
    path = write("background\r\npour mlik\r\n")
    with pytest.raises(LabelError) as caught:
        read_labels(path, classes=CLASSES)
    assert str(caught.value) == (
        f"{path}, line 2: class 'pour mlik' is not in the mapping (nearest: 'pour milk'). "
        "Correct the line, or add the class to the mapping."
    )


def test_no_nearest_class_is_made_up(write):
    with pytest.raises(LabelError) as caught:
        read_labels(write("zzz"), classes=CLASSES)
    assert "(nearest" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_an_empty_label_file_is_an_error(write, content):
    with pytest.raises(LabelError, match=r"has no labels\. Write one class name per video frame"):
        read_labels(write(content), classes=CLASSES)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(LabelError, match=r"gone\.txt: there is no such label file"):
        read_labels(tmp_path / "gone.txt", classes=CLASSES)


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    with pytest.raises(LabelError, match="the mapping cannot be read"):
        read_mapping(tmp_path)


def test_a_mapping_keeps_blanks_inside_names_and_orders_by_id(write):
    path = write("2 pour  milk\r\n\r\n0\tbackground \r\n  10 a b\n")
    assert read_mapping(path).names == ("background", "pour  milk", "a b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0 a\nb\n", r"line 2: 'b' is not `<id> <name>`"),
        ("0 a\n1\n", r"line 2: '1' is not"),
        ("-1 a\n", r"line 1: '-1 a' is not"),
        ("1.0 a\n", r"line 1"),
        ("0 a\n0 b\n", r"line 2: id 0 is already 'a'\. Give each class its own id\."),
        ("0 a\n1 a\n", r"mapping\.txt names class 'a' twice"),
        ("\n \n", r"mapping\.txt names no class"),
    ],
)
def test_a_mapping_that_is_no_mapping_is_an_error_that_names_the_file(write, content, message):
    path = write(content, "mapping.txt")
    with pytest.raises(LabelError, match=message) as caught:
        read_mapping(path)
    assert str(caught.value).startswith(str(path))


def test_a_class_list_is_never_empty_and_has_no_name_twice():
    with pytest.raises(LabelError, match="at least one class"):
        ClassList(())
    with pytest.raises(LabelError, match="'a' occurs twice"):
        ClassList(("a", "b", "a"))


def test_ids_are_positions_and_an_unknown_name_gets_the_nearest():
    assert CLASSES.ids_named(["pour milk", "background"]) == (1, 0)
    with pytest.raises(LabelError, match="nearest: 'background'"):
        CLASSES.ids_named(["backgroud"])


def write_split(folder, *, train, test):
    (folder / "train.split1.bundle").write_text(train, newline="")
    (folder / "test.split1.bundle").write_text(test, newline="")


def test_a_split_may_end_names_in_txt_or_not_and_keeps_its_order(tmp_path):
    write_split(tmp_path, train="b.txt\r\na\r\n\r\nP03_cam.01.txt", test="c d\n")
    split = read_split(tmp_path, "split1")
    assert (split.train, split.test) == (("b", "a", "P03_cam.01"), ("c d",))


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("a\na.txt\n", "b", r"train\.split1\.bundle names video 'a' twice\. Remove"),
        ("a\nb\n", "b.txt\n", r"video 'b' is in both train\.split1\.bundle and test\.split1\.bundle"),
        ("a\n", "\n", r"test\.split1\.bundle names no video"),
    ],
)
def test_a_split_that_cannot_be_meant_is_an_error_that_names_the_file(tmp_path, train, test, message):
    write_split(tmp_path, train=train, test=test)
    with pytest.raises(LabelError, match=message) as caught:
        read_split(tmp_path, "split1")
    assert str(caught.value).startswith(str(tmp_path))


def test_a_missing_split_is_named(tmp_path):
    with pytest.raises(LabelError, match=r"train\.split9\.bundle: there is no such split"):
        read_split(tmp_path, "split9")


@pytest.mark.parametrize(
    ("num_frames", "tolerance"), [(1, 10), (40, 10), (1000, 10), (1099, 10), (1100, 11), (29_000, 290)]
)
def test_the_tolerance_is_ten_frames_or_one_per_cent(tmp_path, num_frames, tolerance):
    source = tmp_path / "tea.txt"
    for difference in (-tolerance, tolerance):
        if num_frames + difference > 0:
            labels = np.arange(num_frames + difference)
            fitted = fit_labels(labels, num_frames=num_frames, source=source)
            assert fitted.labels.tolist() == labels[:num_frames].tolist()
    for difference in (-tolerance - 1, tolerance + 1):
        if num_frames + difference > 0:
            with pytest.raises(LabelError) as caught:
                fit_labels(np.arange(num_frames + difference), num_frames=num_frames, source=source)
            message = str(caught.value)
            assert message.startswith(f"{source} has {num_frames + difference} labels")
            assert f"{num_frames} frames" in message
            assert f"up to {tolerance} would be cut" in message


def test_what_is_cut_is_said(tmp_path):
    source = tmp_path / "tea.txt"
    longer = fit_labels(np.zeros(43, np.int64), num_frames=40, source=source)
    assert longer.note == f"{source}: 43 labels for 40 frames, 3 labels left out at the end"
    shorter = fit_labels(np.zeros(39, np.int64), num_frames=40, source=source)
    assert shorter.note == f"{source}: 39 labels for 40 frames, 1 frame left out at the end"
    assert fit_labels(np.zeros(40, np.int64), num_frames=40, source=source).note == ""


names = st.lists(
    st.text(string.ascii_letters + "éß_-'() .", min_size=1, max_size=12).map(str.strip).filter(bool),
    min_size=1,
    max_size=6,
    unique=True,
)


@given(
    names=names,
    picks=st.lists(st.integers(0, 5), min_size=1, max_size=50),
    line_end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "latin-1"]),
    last=st.booleans(),
)
def test_what_is_written_is_read_back(tmp_path_factory, names, picks, line_end, encoding, last):  # noqa: PLR0917
    folder = tmp_path_factory.mktemp("labels")
    ids = [pick % len(names) for pick in picks]
    mapping = line_end.join(f"{index} {name}" for index, name in enumerate(names))
    (folder / "mapping.txt").write_bytes(mapping.encode(encoding))
    labels = line_end.join(names[index] for index in ids) + line_end * last
    (folder / "tea.txt").write_bytes(labels.encode(encoding))
    classes = read_mapping(folder / "mapping.txt")
    assert classes.names == tuple(names)
    assert read_labels(folder / "tea.txt", classes=classes).tolist() == ids
