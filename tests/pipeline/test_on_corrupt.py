"""Damaged videos: nothing of them, or the whole part before the damage, as the user says."""

import numpy as np
import pytest

from pipeline.catalogue import open_video
from pipeline.decode_rules import DecodeRules
from pipeline.errors import CorruptVideoError
from pipeline.extract import feature_identity
from pipeline.guard import probe_guarded, read_guarded
from pipeline.probe import probe_video
from pipeline.profiles import parse_profile
from pipeline.video import read_frames
from storage.catalogue import read_catalogue
from storage.store import Store

KEEP = DecodeRules(on_corrupt="keep-decodable")


@pytest.fixture
def broken(tmp_path, h264, break_video):
    """The video with the pictures of its second half overwritten by zeros."""
    return break_video(h264, tmp_path / "broken.mp4", after=20)


def read_all(path, facts):
    return np.concatenate([pictures.copy() for _, pictures in read_guarded(path, facts)])


def test_the_part_before_the_damage_is_that_of_the_whole_video(broken, h264):
    facts = probe_guarded(broken, rules=KEEP)
    assert 0 < facts.num_frames < 20
    assert (facts.promised_frames, facts.decoder) == (40, "pyav")
    np.testing.assert_allclose(facts.frame_times, np.arange(facts.num_frames) / 25, atol=1e-9)
    expected = np.concatenate([pictures for _, pictures in read_frames(h264, probe_video(h264))])
    np.testing.assert_array_equal(read_all(broken, facts), expected[: facts.num_frames])


def test_the_count_is_that_of_the_error(broken):
    kept = probe_guarded(broken, rules=KEEP).num_frames
    facts = probe_guarded(broken)
    with pytest.raises(CorruptVideoError, match=f"corrupt after frame {kept} of 40.*keep-decodable"):
        read_all(broken, facts)


def test_a_file_that_ends_early_is_kept_up_to_its_end(tmp_path, make_video, make_frames):
    whole = make_video(tmp_path / "whole.mp4", make_frames(40), container_options={"movflags": "faststart"})
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    with pytest.raises(CorruptVideoError):
        probe_guarded(path)
    facts = probe_guarded(path, rules=KEEP)
    assert 0 < facts.num_frames < facts.promised_frames == 40
    assert len(read_all(path, facts)) == facts.num_frames


def test_a_whole_video_is_the_same_under_both(h264):
    kept, plain = probe_guarded(h264, rules=KEEP), probe_guarded(h264)
    assert not kept.is_cut
    assert kept.reading == plain.reading
    np.testing.assert_array_equal(kept.frame_times, plain.frame_times)


def test_a_video_without_a_whole_picture_is_an_error_under_both(tmp_path, h264):
    path = tmp_path / "cut.mp4"
    path.write_bytes(h264.read_bytes()[:500])
    for rules in (KEEP, DecodeRules()):
        with pytest.raises(CorruptVideoError, match=r"cut.mp4: "):
            probe_guarded(path, rules=rules)


def test_features_of_a_part_have_a_key_of_their_own(broken, h264):
    profile = parse_profile("clip")
    keys = [
        feature_identity(profile, weights_digest="w", video_hash="v", decoder=facts.reading)
        for facts in (probe_guarded(broken, rules=KEEP), probe_guarded(h264), probe_video(h264, "pyav"))
    ]
    assert len({str(key) for key in keys}) == 3


def test_the_catalogue_says_that_only_a_part_is_taken(broken, tmp_path):
    store = Store(tmp_path / "store")
    kept = open_video(broken, store=store, rules=KEEP)
    (row,) = read_catalogue(store.catalogue_path)
    assert (row.status, row.num_frames) == ("ok", kept.facts.num_frames)
    assert f"corrupt after frame {row.num_frames} of 40" in row.error
    # Later stages take the video as the extraction left it.
    assert open_video(broken, store=store).facts.num_frames == kept.facts.num_frames


def test_a_file_that_changes_while_it_is_probed_is_named(tmp_path, h264, monkeypatch):
    path = tmp_path / "growing.mp4"
    path.write_bytes(h264.read_bytes())

    def probe_and_grow(given, rules):
        facts = probe_guarded(given, rules=rules)
        with given.open("ab") as file:
            file.write((8).to_bytes(4, "big") + b"free")
        return facts

    monkeypatch.setattr("pipeline.catalogue.probe_guarded", probe_and_grow)
    store = Store(tmp_path / "store")
    with pytest.raises(Exception, match=r"growing.mp4: changed while it was read"):
        open_video(path, store=store)
    assert not list(store.root.glob("timelines/*.parquet"))
    assert [row.status for row in read_catalogue(store.catalogue_path)] == ["failed"]


def test_the_kept_part_of_a_real_damaged_video(shared):
    path = shared / "videos" / "odd" / "decord__corrupted.mp4"
    facts = probe_guarded(path, rules=KEEP)
    assert (facts.num_frames, facts.promised_frames) == (28, 50)
    assert sum(len(indices) for indices, _ in read_guarded(path, facts)) == 28
