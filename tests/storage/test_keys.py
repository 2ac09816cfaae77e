import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.keys import DigestMemo, digest_of, file_digest

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.text(), json_values), st.randoms())
def test_the_order_of_keys_does_not_change_a_digest(identity, random):
    items = list(identity.items())
    random.shuffle(items)
    assert digest_of(dict(items)) == digest_of(identity)


@given(st.dictionaries(st.text(), json_values, min_size=1), json_values)
def test_another_value_gives_another_digest(identity, other):
    key = next(iter(identity))
    changed = {**identity, key: [identity[key], other]}
    assert digest_of(changed) != digest_of(identity)


def test_a_digest_of_a_value_json_cannot_say_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        digest_of({"rate": float("inf")})


def test_file_digest_is_the_sha256_of_the_content(tmp_path):
    content = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(content)
    assert file_digest(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_a_remembered_file_is_not_read_again(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    memo = DigestMemo(tmp_path / "memo")
    first = memo.digest(path)
    monkeypatch.setattr("storage.keys.file_digest", lambda _: pytest.fail("read again"))
    assert DigestMemo(tmp_path / "memo").digest(path) == first


@pytest.mark.parametrize("change", ["content", "touched", "replaced"])
def test_a_changed_file_is_read_again(tmp_path, change):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    memo = DigestMemo(tmp_path / "memo")
    first = memo.digest(path)
    reads = []
    original = file_digest

    def counted(path):
        reads.append(path)
        return original(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("storage.keys.file_digest", counted)
        if change == "content":
            path.write_bytes(b"abcd")
        elif change == "touched":
            os.utime(path, ns=(1, 1))
        else:
            stat = path.stat()
            (tmp_path / "b").write_bytes(b"xyz")
            os.utime(tmp_path / "b", ns=(stat.st_atime_ns, stat.st_mtime_ns))
            (tmp_path / "b").replace(path)
        second = memo.digest(path)
    assert len(reads) == 1
    assert (second == first) == (change == "touched")


def test_a_name_that_is_no_text_can_be_remembered(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    path.write_bytes(b"abc")
    assert DigestMemo(tmp_path / "memo").digest(path) == hashlib.sha256(b"abc").hexdigest()
