"""Prefect lives here and nowhere else: tasks, flows, deployments and the command line."""
