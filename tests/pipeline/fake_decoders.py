"""Decoders that misbehave, for the process that guards against such; found there by module and name."""

# ruff: noqa: ARG001  (they have the arguments of real ones)

import ctypes
import os
import sys
import time
from pathlib import Path

from pipeline.probe import probe_video
from pipeline.video import read_frames


def hangs(path, facts, indices, batch_frames, allocate):
    """Gives a batch, then never another."""
    yield next(read_frames(path, facts, indices, batch_frames, allocate))
    while True:
        time.sleep(1)


def dies(path, facts, indices, batch_frames, allocate):
    """Gives a batch, then touches memory that is not its own."""
    yield next(read_frames(path, facts, indices, batch_frames, allocate))
    ctypes.string_at(0)


def runs_away(path, facts, indices, batch_frames, allocate):
    """Gives a batch, then takes all the memory it can get."""
    yield next(read_frames(path, facts, indices, batch_frames, allocate))
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(1 << 20) * 32))


def throws(path, facts, indices, batch_frames, allocate):
    """Fails as no decoder should."""
    raise IndexError("list index\nout of range")
    yield


def leaves(path, facts, indices, batch_frames, allocate):
    """Ends its process in good order."""
    os._exit(7)
    yield


def decord_hangs(path, facts, *arguments, **options):
    """Hangs unless PyAV is asked for."""
    yield from (read_frames if facts.decoder == "pyav" else hangs)(path, facts, *arguments, **options)


def decord_dies(path, facts, *arguments, **options):
    """Crashes unless PyAV is asked for."""
    yield from (read_frames if facts.decoder == "pyav" else dies)(path, facts, *arguments, **options)


def decord_is_missing(path, facts, *arguments, **options):
    """On a machine without decord."""
    sys.modules["decord"] = None
    try:
        yield from read_frames(path, facts, *arguments, **options)
    finally:
        del sys.modules["decord"]


def decord_fails(path, facts, *arguments, **options):
    """decord stops at a frame that PyAV decodes."""
    import decord

    def get_batch(_reader, _indices):
        raise decord.DECORDError("[0:0:0] video_reader.cc:1: Check failed:\n cannot seek")

    whole, decord.VideoReader.get_batch = decord.VideoReader.get_batch, get_batch
    try:
        yield from read_frames(path, facts, *arguments, **options)
    finally:
        decord.VideoReader.get_batch = whole


def prober_that_hangs(path, decoder, on_corrupt):
    """Never answers."""
    while True:
        time.sleep(1)


def prober_that_dies_with_decord(path, decoder, on_corrupt):
    """Crashes unless PyAV is asked for."""
    if decoder is None:
        ctypes.string_at(0)
    return probe_video(path, decoder)


def prober_that_logs_its_process(path, decoder, on_corrupt):
    """Leaves its process id in a file beside the video."""
    Path(f"{path}.pid").write_text(str(os.getpid()))
    return prober_that_hangs(path, decoder, on_corrupt)
