"""Which of the processes that torchrun started this is: the first speaks and runs the flow, the others help it."""

import os

from pipeline.errors import SettingsError


def is_helper() -> bool:
    """Whether torchrun started this process, and another one speaks for all of them."""
    return int(os.environ.get("RANK", "0")) > 0


def check_can_be_shared(stage: str) -> None:
    """Refuse what several processes would each do in full.

    Raises:
        SettingsError: torchrun started another stage than ``train``.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and stage != "train":
        raise SettingsError(
            f"torchrun starts processes that share a training, and this is {stage!r}. Start it without torchrun, and "
            "only `factseg train` with it."
        )
