"""The steps from video to scores as plain functions."""
