"""Bytes at rest: features, labels, text embeddings, predictions and runs. No torch here."""

from storage.telemetry import silence

# Before any dependency that reports usage is imported.
silence()
