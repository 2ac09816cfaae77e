"""Profiles: what they promise, what they refuse, and the words they are written in."""

import subprocess
import sys

import pytest

from pipeline.errors import SettingsError
from pipeline.profiles import BUILT_IN, parse_profile
from storage.keys import digest_of
from storage.store import Store


def test_mstcn_profile_is_the_published_one():
    profile = parse_profile("mstcn-i3d")
    assert (profile.window_frames, profile.stride_frames, profile.edge) == (21, 1, "clone")
    assert profile.streams == ("rgb", "optical_flow")
    assert profile.optical_flow == "tvl1"
    assert profile.width == 2048


def test_rgb_profile_is_half_of_the_published_one():
    assert parse_profile("i3d-rgb").width == 1024
    assert parse_profile("i3d-rgb").networks == ("i3d-rgb",)
    assert parse_profile("mstcn-i3d").networks == ("i3d-rgb", "i3d-optical-flow")


def test_clip_width_comes_from_the_models_configuration():
    assert parse_profile("clip").width == 512
    assert parse_profile("clip:model=ViT-L-14").width == 768


@pytest.mark.parametrize(
    "text",
    [
        "mstcn-i3d",
        "i3d-rgb:stride=8",
        "i3d-rgb:stride=2:window=31",
        "clip:model=ViT-L-14:stride=4",
        "raft-i3d:flow=dis:fps=25:stride=24:window=24",
        "clip:fps=29.97:name=mine:precision=bfloat16",
        "i3d-rgb:edge=zero:flow=tvl1:streams=optical-flow",
        "mstcn-i3d:streams=rgb",
    ],
)
def test_canonical_text_reads_back_as_itself(text):
    profile = parse_profile(text)
    assert profile.spec == text
    assert parse_profile(profile.spec) == profile


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_name_is_a_name_in_the_store(tmp_path, name):
    assert name in Store(tmp_path).feature_path(name, "0" * 64).parts


def test_settings_written_in_another_order_give_the_same_key():
    one = parse_profile("clip:stride=4:model=ViT-B-16")
    other = parse_profile("clip:model=ViT-B-16:stride=4")
    assert digest_of(one.identity()) == digest_of(other.identity())


def test_raft_profile_is_the_published_one():
    profile = parse_profile("raft-i3d")
    assert (profile.window_frames, profile.stride_frames, profile.edge) == (64, 64, "drop")
    assert profile.networks == ("i3d-rgb", "i3d-optical-flow", "raft")
    assert (profile.width, profile.extra_frames) == (2048, 1)


CHANGES = ["stride=2", "window=23", "edge=zero", "edge=drop", "fps=25", "precision=bfloat16", "name=other"]


def test_every_parameter_changes_the_key():
    texts = ["i3d-rgb", *(f"i3d-rgb:{change}" for change in CHANGES), "i3d-rgb-dense"]
    texts += [f"mstcn-i3d{change}" for change in ("", ":flow=dis", ":flow=raft", ":streams=optical-flow+rgb")]
    assert len({digest_of(parse_profile(text).identity()) for text in texts}) == len(texts)


def test_leaving_out_the_stream_leaves_out_its_method():
    assert parse_profile("mstcn-i3d:streams=rgb").optical_flow is None


def test_unknown_profile_names_the_nearest():
    with pytest.raises(SettingsError, match="Did you mean 'i3d-rgb'"):
        parse_profile("i3drgb")


def test_unknown_key_names_the_nearest():
    with pytest.raises(SettingsError, match="Did you mean 'stride'"):
        parse_profile("clip:strid=4")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "i3d-rgb:stride=0",
        "i3d-rgb:stride=-1",
        "i3d-rgb:stride=2.5",
        "i3d-rgb:stride=",
        "i3d-rgb:window=20",
        "i3d-rgb:window=7",
        "i3d-rgb:model=ViT-B-32",
        "clip:window=21",
        "clip:model=",
        "clip:model=../../etc",
        "clip:stride=2:stride=3",
        "i3d-rgb:stride",
        "i3d-rgb:fps=0",
        "i3d-rgb:fps=-25",
        "i3d-rgb:fps=fast",
        "i3d-rgb:edge=mirror",
        "i3d-rgb:streams=",
        "i3d-rgb:streams=rgb+rgb",
        "i3d-rgb:streams=rgb+optical-flow",
        "i3d-rgb:flow=tvl1",
        "i3d-rgb:precision=int8",
        "i3d-rgb:name=clip",
        "i3d-rgb:name=../up",
        "i3d-rgb-dense:stride=8",
        "i3d-rgb-dense:edge=drop",
        "raft-i3d:edge=clone",
    ],
)
def test_nonsense_is_refused(text):
    with pytest.raises(SettingsError):
        parse_profile(text)


def test_profiles_are_read_without_torch():
    code = (
        "import sys; from pipeline.profiles import parse_profile; "
        "parse_profile('mstcn-i3d').width; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
