"""Which device the networks run on."""

import torch

from pipeline.errors import SettingsError


def choose_device(name: str) -> torch.device:
    """The device that ``name`` asks for; ``auto`` takes a GPU where there is one.

    Raises:
        SettingsError: torch does not know the name, or has no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        # torch built without CUDA answers a request for it with an AssertionError.
        reason = str(error).splitlines()[0]
        raise SettingsError(
            f"Device {name!r} cannot be used ({reason}). Use `--device auto` or `cpu`."
        ) from error
    return device
