"""Videos ready for the model: in memory, on the device, or read by workers, mapped or not, where they fit nowhere."""

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline.batch import Batch, Sample, collate
from pipeline.dataset import LabelledSource, load_samples
from pipeline.errors import DatasetError
from pipeline.input_rules import Over, Pool
from pipeline.standardize import ChannelStatistics, Standardisation
from storage.store import Store

log = logging.getLogger(__name__)

Place = Literal["device", "memory", "cache", "off"]
Preload = Literal["auto"] | Place

_SHARE_OF_MEMORY = 0.5
"""Preloaded features may take this part of the memory that is free."""

_SHARE_OF_DISK = 0.5
"""Mapped copies may take this part of the disk that is free."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loading:
    """How features come to the model; changes no number."""

    preload: Preload
    """``auto``: on a GPU where they fit, else in memory where they fit, else through the mapped cache beside the
    features where the disk has room for it, else ``off``: read from the store again every epoch."""
    workers: int
    """Processes that read where nothing is preloaded."""
    device: torch.device


class StoredSamples(Dataset[Sample]):
    """Samples read from the store each time they are asked for."""

    def __init__(
        self,
        sources: Sequence[LabelledSource],
        *,
        sample_rate: int,
        pool: Pool,
        standardisation: Standardisation,
        store: Store,
    ) -> None:
        self._sources = sources
        self._sample_rate = sample_rate
        self._pool: Pool = pool
        self._standardisation = standardisation
        self._store = store
        self.mapped = False
        """Whether features are read through the mapped cache."""

    def __len__(self) -> int:
        """Number of videos."""
        return len(self._sources)

    def cache_fits(self, size_bytes: int) -> bool:
        """Whether mapped copies of features that take so many bytes once sampled leave half of the free disk free."""
        root = self._store.root
        if self._store.read_only or not isinstance(root, Path):
            return False
        return size_bytes * self._sample_rate < _SHARE_OF_DISK * shutil.disk_usage(root).free

    def __getitem__(self, index: int) -> Sample:
        """The video at this place, standardised."""
        source = self._sources[index]
        ((loaded, labels_T),) = load_samples(
            [source], every=self._sample_rate, store=self._store, pool=self._pool, mapped=self.mapped
        )
        return Sample(
            video_id=source.video.id,
            features_TD=self._standardisation.apply(loaded.features),
            labels_T=torch.from_numpy(labels_T),
        )


class TrainingData:
    """The training videos, batch by batch, on the device."""

    def __init__(
        self, stored: StoredSamples, *, lengths: Sequence[int], width: int, loading: Loading
    ) -> None:
        self.lengths = tuple(lengths)
        """Steps of each video."""
        self._stored = stored
        self._device = loading.device
        size_bytes = 4 * width * sum(lengths)
        place = _place_for(size_bytes, loading, cache_fits=stored.cache_fits(size_bytes))
        log.debug("training features: %s", place)
        stored.mapped = place == "cache"
        self._samples: list[Sample] | None = None
        self._plan = _Plan()
        if place in {"cache", "off"}:
            self._loader = DataLoader(
                stored,
                batch_sampler=self._plan,
                num_workers=loading.workers,
                collate_fn=collate,
                persistent_workers=loading.workers > 0,
                # Nothing random happens in a worker; torch's own generator is left alone.
                generator=torch.Generator(),
                multiprocessing_context="spawn" if loading.workers else None,
            )
            return
        samples = [stored[index] for index in range(len(stored))]
        self._samples = [sample.to(self._device) for sample in samples] if place == "device" else samples

    def video_ids(self, indices: Sequence[int], sources: Sequence[LabelledSource]) -> list[str]:
        """Names of some videos."""
        return [sources[index].video.id for index in indices]

    def batches(self, plan: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """A batch on the device for each list of videos; empty lists are passed over."""
        wanted = [list(indices) for indices in plan if indices]
        if self._samples is not None:
            for indices in wanted:
                yield collate([self._samples[index] for index in indices]).to(self._device)
            return
        self._plan.batches = wanted
        for batch in self._loader:
            yield batch.to(self._device)


class _Plan(Sampler[list[int]]):
    """The batches that the workers are to read next; lives in the main process."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ChannelSurvey:
    """What one look at the features of all training videos finds."""

    lengths: tuple[int, ...]
    """Steps of each video."""
    standardisation: Standardisation


def survey_channels(
    sources: Sequence[LabelledSource],
    *,
    sample_rate: int,
    pool: Pool,
    standardize: Over | None,
    width: int,
    store: Store,
) -> ChannelSurvey:
    """Read every video once, one at a time, for its length and the channels' mean and scale.

    Args:
        sources: The training videos.
        sample_rate: Steps of which one is used.
        pool: What a used step stands for.
        standardize: Whose mean and scale; None leaves the features as they are.
        width: D.
        store: Where the features are.

    Raises:
        DatasetError: A video has a feature that is not finite, which would spoil the mean for all.
    """
    statistics = ChannelStatistics()
    lengths = []
    for source in sources:
        ((loaded, _),) = load_samples([source], every=sample_rate, store=store, pool=pool)
        check_finite(loaded.features, video=source.video.id)
        lengths.append(len(loaded.features))
        if standardize in {"training", "both"}:
            statistics.add(loaded.features)
    if standardize is None:
        found = Standardisation.none(width)
    elif standardize == "video":
        found = Standardisation.by_video(width)
    else:
        found = replace(statistics.standardisation(), over=standardize)
    return ChannelSurvey(lengths=tuple(lengths), standardisation=found)


def check_finite(features_TD: NDArray[np.float32], *, video: str) -> None:
    """Refuse features that are not finite.

    Raises:
        DatasetError: Some are; the message names the video and the first such step.
    """
    bad = np.flatnonzero(~np.isfinite(features_TD).all(axis=1))
    if len(bad):
        raise DatasetError(
            f"{video}: {len(bad)} of {len(features_TD)} steps have NaN or infinite features, the first is step "
            f"{bad[0]}. Extract or import its features again, or leave the video out of the split."
        )


def _place_for(size_bytes: int, loading: Loading, *, cache_fits: bool) -> Place:
    if loading.preload != "auto":
        return loading.preload
    if loading.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(loading.device)
        if size_bytes < _SHARE_OF_MEMORY * free:
            return "device"
    if size_bytes < _SHARE_OF_MEMORY * _free_memory_bytes():
        return "memory"
    return "cache" if cache_fits else "off"


def _free_memory_bytes() -> int:
    """Memory that is free now."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
