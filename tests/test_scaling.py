"""The arithmetic of docs/scaling.md."""

import subprocess
import sys

import pytest

from tests.test_architecture import ROOT

SCRIPT = ROOT / "docs" / "work_out_scaling.py"


def work_out(*options):
    ran = subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def column(printed, features):
    """Values of one plan by the name of their row."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line]
    titles = next(row for row in rows if f"`{features}`" in row)
    place = titles.index(f"`{features}`")
    return {row[0]: row[place] for row in rows if len(row) == len(titles)}


def test_the_page_shows_what_the_script_prints():
    assert work_out() in (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


def test_numbers_small_enough_to_work_out_by_hand():
    # An hour of 36 frames/s is 129,600 frames. 72 of them a second are decoded, 36 windows a second at half load.
    given = ("--hours=1", "--fps=36", "--decode=72", "--i3d=36", "--busy=0.5", "--kept=0.5", "--bitrate=8")
    prices = ("--machine-price=10", "--core-price=0.5", "--storage-price=2")
    made = column(work_out(*given, *prices), "i3d-rgb")
    # Half an hour to decode, and as much for the windows at full load: the CPU counts as the slower one.
    assert made["full first"] == "CPU (decoding)"
    assert made["$ per hour of video"] == "5.000"
    # 129,600 x 1,024 x 4 bytes, halved.
    assert made["features, GB"] == "0"
    assert made["$ a month for them"] == "0.53"
    assert made["videos, GB"] == "4"
    assert made["Mbit/s read by a machine"] == "16"


def test_more_cores_make_a_plan_that_decoding_limits_cheaper():
    before = column(work_out(), "i3d-rgb:stride=8,clip:stride=4")
    after = column(work_out("--cores=32"), "i3d-rgb:stride=8,clip:stride=4")
    assert (before["full first"], after["full first"]) == ("CPU (decoding)", "GPU")
    assert float(after["machine-hours"]) < float(before["machine-hours"])


@pytest.mark.parametrize("option", ["--fps=0", "--decode=-1", "--machine-price=inf", "--hours=nan"])
def test_an_input_that_is_no_number_above_zero_is_refused(option):
    ran = subprocess.run([sys.executable, SCRIPT, option], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "is not a number above 0" in ran.stderr
