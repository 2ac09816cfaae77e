"""New videos: features, then segments by a trained model. No labels are asked for."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.catalogue import Video
from pipeline.dataset import StoredVideo, find_stored, load_features
from pipeline.device import choose_device
from pipeline.errors import PipelineError
from pipeline.inputs import ModelInput, inputs_of_model
from pipeline.model import TrainedModel, load_model, read_description
from pipeline.outcome import VideoOutcome
from pipeline.predict import FramePrediction, predict_frames, prediction_key, segments_of
from pipeline.settings import ExtractionSettings, SegmentSettings
from storage.errors import MissingArtefactError, StorageError
from storage.folders import is_finished
from storage.registry import Registry
from storage.segments import Segment, read_segments, write_segments
from storage.store import Store
