"""Profiles of one's own: read from TOML, written out in full, and as strict as the built-in ones."""

import pytest

from pipeline.errors import SettingsError
from pipeline.profile_files import read_profiles
from pipeline.profiles import BUILT_IN, parse_profile
from pipeline.settings import ExtractionSettings
from pipeline.settings_reading import build_settings

FILE = """
[quick]
base = "raft-i3d"
window = 16
stride = 8
fps = 15.0
flow = "dis"
streams = ["rgb", "optical-flow"]
precision = "bfloat16"

[pictures]
base = "clip"
model = "ViT-B-16"
fps = 2.5
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "profiles.toml"
    path.write_text(FILE)
    return path


def test_a_file_gives_its_profiles_beside_the_built_in_ones(file):
    profiles = read_profiles(file)
    assert profiles.keys() == {*BUILT_IN, "quick", "pictures"}
    quick = profiles["quick"]
    assert (quick.window_frames, quick.stride_frames, quick.edge, quick.target_fps) == (16, 8, "drop", 15)
    assert (quick.optical_flow, quick.streams, quick.precision) == (
        "dis",
        ("rgb", "optical_flow"),
        "bfloat16",
    )
    assert (profiles["pictures"].clip_model, profiles["pictures"].target_fps) == ("ViT-B-16", 2.5)


def test_settings_hold_the_whole_profile_and_no_longer_need_the_file(file):
    settings = ExtractionSettings(profiles_file=file, features=("quick:stride=4", "pictures", "clip"))
    assert settings.features == (
        "raft-i3d:flow=dis:fps=15:name=quick:precision=bfloat16:stride=4:window=16",
        "clip:fps=2.5:model=ViT-B-16:name=pictures",
        "clip",
    )
    assert [profile.name for profile in settings.profiles] == ["quick", "pictures", "clip"]
    file.unlink()
    assert [parse_profile(spec).spec for spec in settings.features] == list(settings.features)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[a]\nbase = 'i3d-rgb'\nstride = 0", r"\[a\]: .*a stride is at least 1 frame"),
        ("[a]\nbase = 'i3d-rgb'\nwindw = 9", r"\[a\]: .*Did you mean 'window'"),
        ("[a]\nbase = 'i3drgb'", r"\[a\]: No feature profile 'i3drgb'. Did you mean 'i3d-rgb'"),
        ("[a]\nstride = 2", r"\[a\]: a profile is a table with the key `base`"),
        ("a = 1", r"\[a\]: a profile is a table"),
        ("[clip]\nbase = 'i3d-rgb'", r"\[clip\]: .*takes the name of a built-in profile"),
        ("[A]\nbase = 'i3d-rgb'", r"\[A\]: .*lower-case letters"),
        ("[a]\nbase = 'i3d-rgb'\nstride = true", "stride = True is no setting"),
        ("[a]\nbase = 'i3d-rgb'\nedge = 'drop:stride=0'", "is no setting of a profile"),
        ("[a]\nbase = 'i3d-rgb'\nname = 'b'", "sets 'name' twice"),
        ("[a", "is no TOML"),
    ],
)
def test_a_profile_that_cannot_be_is_refused_with_its_name(tmp_path, text, complaint):
    path = tmp_path / "profiles.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=complaint) as caught:
        read_profiles(path)
    assert str(caught.value).startswith(str(path))


def test_a_missing_file_is_named_by_the_settings(tmp_path):
    values = {"profiles_file": tmp_path / "none.toml", "features": ["clip"]}
    with pytest.raises(SettingsError, match=r"none\.toml: cannot be read"):
        build_settings(ExtractionSettings, values, source="settings")
