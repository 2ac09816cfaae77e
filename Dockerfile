# What compose.yaml runs of ours: the environment of the lock, and this clone.
FROM python:3.11.13-slim-bookworm

RUN useradd --create-home --uid 1000 factseg \
    && install -d -o factseg -g factseg /app /data /home/factseg/.cache
WORKDIR /app

# The lock first: as long as it stays, so does this layer of some 5 GB.
COPY requirements.lock ./
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes --requirement requirements.lock

COPY --chown=factseg:factseg . .
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --editable . \
    # Flows run here, and the nightly one reads factseg.toml: that of the folder which compose.yaml shows as /data.
    && ln -s /data/factseg.toml factseg.toml

USER factseg
# One thread each where two pools share the cores, and workers that sleep while they wait: docs/performance.md.
ENV OMP_WAIT_POLICY=PASSIVE PYTHONUNBUFFERED=1 DO_NOT_TRACK=1
CMD ["factseg", "--help"]
