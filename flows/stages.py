"""The stages and the order of their steps, whoever carries them out.

Every stage is a function of its settings and a ``Runner``: ``flows.chain`` makes a Prefect flow of each, and
``--direct`` calls it as it is.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from flows.reports import StageReport
from flows.runner import Runner
from pipeline.catalogue import find_all_videos
from pipeline.errors import DatasetError
from pipeline.evaluate import evaluate_run
from pipeline.extract_batch import extract_batch
from pipeline.labels import read_mapping, read_split
from pipeline.outcome import VideoOutcome, failures
from pipeline.segment import segment_batch
from pipeline.settings import EmbedSettings, ExtractSettings, RunSettings, SegmentSettings
from pipeline.texts import embed_classes
from pipeline.train import train
from storage.store import Store

StageFunction = Callable[[RunSettings, Runner], StageReport]
