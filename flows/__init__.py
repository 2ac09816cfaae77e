"""Prefect lives here and nowhere else: tasks, flows, deployments and the command line."""

from storage.telemetry import silence

# Before any dependency that reports usage is imported.
silence()
