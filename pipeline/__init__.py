"""The steps from video to scores as plain functions."""

from storage.telemetry import silence

# Before any dependency that reports usage is imported.
silence()
