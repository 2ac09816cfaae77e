"""Number formats to compute in: full float32, TF32 matrix products, or bfloat16 by autocast."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["fp32", "tf32", "bf16"]


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware (AMX or AVX512-BF16)."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))


@contextmanager
def computing_in(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute in a precision on a device within the block, then as before.

    ``fp32`` and ``tf32`` set torch's switches for the whole process, so threads share them; ``bf16`` is autocast
    on top of TF32. Take the backward pass outside of the block or inside, as you like.

    Warns:
        UserWarning: bf16 on a processor without instructions for it, where it is slower than float32.
    """
    if precision == "bf16" and device.type == "cpu" and not cpu_has_bfloat16():
        warnings.warn(
            "This processor has no bfloat16 instructions (AMX or AVX512-BF16): bf16 gives the same answers as "
            "elsewhere, but slower than fp32 here.",
            stacklevel=3,
        )
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
