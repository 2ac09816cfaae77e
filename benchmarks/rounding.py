"""What float16 features change in the scores of a model that was trained on float32; one JSON line per split.

    python -m benchmarks.rounding jigsaws-suturing --splits split1,split2 --epochs 12 --every 15

A data set in the MS-TCN layout is imported bit for bit and trained on; then the same run predicts the test videos from
the features as they are, and from a copy of the store whose features were packed as ``compact``.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.import_mstcn import MstcnFolder, import_mstcn
from pipeline.metrics import evaluate
from pipeline.retraining import predict_test_videos
from pipeline.settings import DatasetSettings, ExtractionSettings, RunSettings
from pipeline.settings_training import TrainingSettings
from pipeline.train import train
from storage.features import read_features, write_features
from storage.places import listed
from storage.store import Store

_NAME = "rounding"


def pack_compact(store: Store) -> float:
    """Write every feature file of the store anew as float16; the share of values that this changed."""
    changed = total = 0
    for path in listed(store.root, "features/*/*.parquet"):
        found = read_features(path)
        path.unlink()
        with write_features(
            path, width=found.feature.shape[1], metadata=found.metadata, packing="compact"
        ) as writer:
            writer.append(found.time, found.feature)
        changed += int((read_features(path).feature != found.feature).sum())
        total += found.feature.size
    return changed / total


def measurements(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """A row per split."""
    exact, rounded = folder / "exact", folder / "rounded"
    dataset = import_mstcn(MstcnFolder.at(options.dataset), name=_NAME, store=Store(exact)).dataset
    for split in options.splits.split(","):
        settings = RunSettings(
            store=exact,
            dataset=DatasetSettings(imported=_NAME, split=split),
            extraction=ExtractionSettings(device=options.device),
            training=TrainingSettings(
                model="fact", recipe=str(options.recipe), epochs=options.epochs, every=options.every
            ),
        )
        run = train(settings).run
        shutil.copytree(exact, rounded)
        values_changed = pack_compact(Store(rounded))
        pair = [
            predict_test_videos(settings.model_copy(update={"store": root}), run=run)
            for root in (exact, rounded)
        ]
        changed = [one.predicted != other.predicted for one, other in zip(*pair, strict=True)]
        before, after = (evaluate(predictions, class_names=dataset.classes).figures for predictions in pair)
        yield {
            "split": split,
            "videos": len(changed),
            "values_changed": values_changed,
            "frames": sum(map(len, changed)),
            "frames_of_another_class": int(np.concatenate(changed).sum()),
            "float32": before,
            "float16": after,
            "largest_change": max(abs(after[name] - before[name]) for name in before),
        }
        shutil.rmtree(rounded)


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dataset", type=Path, help="a folder in the MS-TCN layout, with features")
    parser.add_argument("--splits", default="split1", help="names, separated by commas")
    parser.add_argument("--recipe", type=Path, default=Path("benchmarks/jigsaws.yaml"))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--every", type=int, default=15, help="every this many-th row is used")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for row in measurements(options, Path(folder)):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
