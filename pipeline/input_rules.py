"""Words for how features become the input of a model; without torch, for the settings."""

from typing import Literal

Pool = Literal["none", "mean"]
"""What a step stands for where only every so-manyth is used: itself, or the mean over those nearest to it."""

Over = Literal["training", "video", "both"]
"""Whose steps give a channel's mean and deviation: all that are trained on, or each video's own. ``both``: the one
and then the other, side by side, so that a model has twice as many channels."""
