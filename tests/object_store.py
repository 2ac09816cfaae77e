"""A real S3 protocol server on this machine, for tests of stores and videos named by URLs."""

import itertools
import logging
import os

import pytest

_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    # No file and no service of the machine is asked for credentials.
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def s3_server():
    """Environment of a process that is to use the server."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        environment = {**_CREDENTIALS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment
    server.stop()


@pytest.fixture
def bucket(s3_server):  # noqa: ARG001  (its environment)
    """URL of an empty bucket."""
    from upath import UPath

    place = UPath(f"s3://factseg-{next(_numbers)}", use_listings_cache=False)
    place.fs.mkdir(place.path)
    return str(place).rstrip("/")
