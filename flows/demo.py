"""The demo: a data set drawn on the spot, the whole chain on it, and one new video segmented."""

import logging
from pathlib import Path

from flows.invoke import execute
from flows.reports import StageReport
from pipeline import progress
from pipeline.bench import BenchDataset, write_bench
from pipeline.inputs import clip_network
from pipeline.settings import (
    DatasetSettings,
    ExtractionSettings,
    RunSettings,
    SegmentSettings,
    StoreAddress,
    TextSettings,
)
from pipeline.settings_training import TrainingSettings
from pipeline.weights import WeightsChoice, WeightsPolicy, find_here

log = logging.getLogger(__name__)

MODEL_NAME = "bench"
"""Name of the demo's data set and model."""

FEATURES = ("i3d-rgb:stride=9:window=15", "clip:stride=9")
"""A second of pictures every 0.6 seconds: what two cores extract from 15 videos in some minutes."""

TRAINING = TrainingSettings(epochs=60, batch_size=5, learning_rate=7e-4)
"""Few and large steps, because ten short videos are soon learnt and a small step costs as much as a large one."""


def demo_settings(dataset: BenchDataset, *, store: StoreAddress, pretrained: bool) -> RunSettings:
    """What the demo tells the full pipeline."""
    policy = WeightsPolicy.PRETRAINED if pretrained else _policy_without_download()
    return RunSettings(
        store=store,
        dataset=DatasetSettings(
            videos=dataset.videos,
            labels=dataset.labels,
            mapping=dataset.mapping,
            splits=dataset.splits,
            name=MODEL_NAME,
        ),
        extraction=ExtractionSettings(features=FEATURES, weights=policy),
        training=TRAINING,
    )


def run_demo(
    *, data: Path, store: StoreAddress, pretrained: bool, direct: bool
) -> tuple[StageReport, StageReport]:
    """Draw the data set unless it is there, run the full pipeline, segment the new video.

    Returns:
        The reports of the full pipeline and of the segmentation.

    Raises:
        WeightsError: Real weights were insisted on and cannot be had.
    """
    dataset = write_bench(data, progress=_report_drawing)
    settings = demo_settings(dataset, store=store, pretrained=pretrained)
    report = execute("full-pipeline", settings, direct=direct)
    new = SegmentSettings(store=store, videos=(dataset.new_video,), model=MODEL_NAME)
    return report, execute("segment", new, direct=direct)


def _policy_without_download() -> WeightsPolicy:
    """Real weights where all of them are here already, else seeded random ones, said once for the whole demo."""
    extraction = ExtractionSettings(features=FEATURES)
    networks = {network for profile in extraction.profiles for network in profile.networks}
    networks.add(clip_network(TextSettings().model))
    absent = sorted(network for network in networks if find_here(network, WeightsChoice()) is None)
    if not absent:
        return WeightsPolicy.CACHED
    log.warning(
        "No weights of %s are here and the demo downloads nothing: all features and texts come from seeded random "
        "weights. `factseg demo --pretrained` insists on real ones.",
        ", ".join(absent),
    )
    return WeightsPolicy.RANDOM


def _report_drawing(done: int, total: int) -> None:
    progress.report("draw videos", done=done, total=total, unit="videos")
