"""What is asked of a cluster that carries out steps."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class RayCluster:
    """A Ray cluster, and what one task takes of a machine."""

    address: str
    """``HOST:6379`` of its head; empty for the one that Ray finds, or makes."""
    cpus: float
    gpus: float
