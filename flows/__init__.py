"""Prefect lives here and nowhere else: tasks, flows, deployments and the command line."""

import os

from storage.telemetry import silence

# Before any dependency that reports usage is imported.
silence()

# Before torch is imported, which reads it once: threads that spin while they wait take the cores from Prefect's
# server, from the decoder and from each other. Small training steps then take many times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Read when torch first takes memory: large arrays then lie in large pages where Linux has them to give. A network over
# video makes arrays that come from the system anew each time; in small pages I3D took a tenth longer.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# A busy machine takes more than Prefect's 20 seconds to start the embedded server.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
