"""A data set of tiny videos whose stored features say their label: whole stages run in seconds, undecoded."""

import itertools
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.catalogue import open_video
from pipeline.encode import write_h264
from pipeline.inputs import feature_key, inputs_of_settings
from pipeline.settings import DatasetSettings, ExtractionSettings, RunSettings
from pipeline.settings_training import TrainingSettings
from storage.features import FeatureMetadata, write_features
from storage.store import Store

CLASSES = ("background", "pour milk", "stir")
TRAIN, TEST = ("a", "b", "c"), ("x", "y")
NUM_FRAMES = 60

FEATURES = ("i3d-rgb:stride=4", "clip:stride=2")

RECIPE = """
FACT: {ntoken: 10, block: iuU, fpos: false, cmr: 0.0, mwt: 0.5}
Bi: {hid_dim: 32, a_dim: 16, a_ffdim: 32, a_nhead: 2, a_layers: 1, f_dim: 16, f_layers: 3, f_ln: false, f_ngp: 1,
  dropout: 0.1}
Bu: {f_layers: 3}
BU: {f_layers: 3}
CLIP: {projection_hidden_dim: 16}
batch_size: 2
optimizer: Adam
lr: 0.005
epoch: 30
bg_class: [0]
"""
"""A FACT file small enough for a test."""


@dataclass(frozen=True)
class TinyDataset:
    """Five videos in the MS-TCN layout and how to pretend that they were extracted."""

    root: Path

    def labels_of(self, video):
        """(N,) class ids of the video's frames."""
        lines = (self.root / "labels" / f"{video}.txt").read_text().splitlines()
        return np.array([CLASSES.index(line) for line in lines])

    def settings(self, store, **training):
        """Settings of a run on this data set with random weights; ``training`` overrides the tiny recipe."""
        recipe = {"model": "fact", "recipe": str(self.root / "tiny.yaml"), **training}
        return RunSettings(
            store=store,
            dataset=DatasetSettings(
                videos=self.root / "videos",
                labels=self.root / "labels",
                mapping=self.root / "mapping.txt",
                splits=self.root / "splits",
                name="tiny",
            ),
            extraction=ExtractionSettings(features=FEATURES, weights="random", device="cpu"),
            training=TrainingSettings(**recipe),
        )

    def fill(self, store, videos=TRAIN + TEST, *, extraction=None):
        """Store features of some videos, as if the networks had been asked."""
        store = Store(store)
        extraction = extraction or self.settings(store.root).extraction
        for name in videos:
            video = open_video(self.root / "videos" / f"{name}.mp4", store=store)
            for item in inputs_of_settings(extraction, store=store):
                write_fake(store, video, item, labels=self.labels_of(name))


def write_fake(store, video, item, *, labels):
    """Features of one input: a direction per class, half drowned in noise."""
    profile = item.profile
    frames = np.arange(0, video.facts.num_frames, profile.stride_frames)
    directions = np.random.default_rng(profile.width).standard_normal((len(CLASSES), profile.width))
    noise = np.random.default_rng(len(labels)).standard_normal((len(frames), profile.width))
    metadata = FeatureMetadata(
        profile=profile.name,
        identity=profile.identity(),
        weights_digest=item.weights_digest,
        random_weights=item.random_weights,
        video_hash=video.video_hash,
        decoder=video.facts.decoder,
        fps=video.facts.fps,
        num_frames=video.facts.num_frames,
        window_frames=profile.window_frames,
        stride_frames=profile.stride_frames,
    )
    target = store.feature_path(profile.name, feature_key(item, video))
    with write_features(target, width=profile.width, metadata=metadata) as writer:
        writer.append(video.facts.frame_times[frames], directions[labels[frames]] + 0.5 * noise)


def write_tiny_dataset(root):
    """The data set's files under ``root``; every video differs in its pictures and its labels."""
    for name in ("videos", "labels", "splits"):
        (root / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for video in TRAIN + TEST:
        cuts = np.sort(rng.choice(np.arange(1, 9), 3, replace=False)) * (NUM_FRAMES // 9)
        order = itertools.cycle(rng.permutation(len(CLASSES)).tolist())
        bounds = [0, *cuts.tolist(), NUM_FRAMES]
        labels = [
            kind
            for (start, end), kind in zip(itertools.pairwise(bounds), order, strict=False)
            for _ in range(start, end)
        ]
        (root / "labels" / f"{video}.txt").write_text("".join(f"{CLASSES[label]}\n" for label in labels))
        pictures = [rng.integers(0, 40, (48, 64, 3)).astype(np.uint8) + 60 * label for label in labels]
        write_h264(
            root / "videos" / f"{video}.mp4",
            (picture.astype(np.uint8) for picture in pictures),
            width=64,
            height=48,
            fps=10,
        )
    (root / "mapping.txt").write_text("".join(f"{index} {name}\n" for index, name in enumerate(CLASSES)))
    write_split(root, train=TRAIN, test=TEST)
    (root / "tiny.yaml").write_text(RECIPE)
    return TinyDataset(root)


def write_split(root, *, train, test, name="split1"):
    """The two bundles of a split."""
    for part, videos in (("train", train), ("test", test)):
        (root / "splits" / f"{part}.{name}.bundle").write_text("".join(f"{video}.txt\n" for video in videos))


@contextmanager
def one_thread():
    """Networks this small are slower on several threads, and much slower where other programs run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
