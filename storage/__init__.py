"""Bytes at rest: features, labels, text embeddings, predictions and runs. No torch here."""
