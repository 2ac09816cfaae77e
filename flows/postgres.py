"""A PostgreSQL of one's own in a folder, from the system's packages, for a server that needs more than SQLite."""

import glob
import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from flows.service import Service, free_port, wait_until
from pipeline.errors import SettingsError

_ROLE = "factseg"
_SYSTEM_USER = "postgres"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """A database cluster in a folder."""

    folder: Path
    binaries: Path
    port: int
    password: str

    def url(self, database: str, *, driver: str) -> str:
        """Address of a database for SQLAlchemy; holds the password."""
        return f"postgresql+{driver}://{_ROLE}:{self.password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> Service:
        """Start it and wait until it answers.

        Raises:
            SettingsError: It did not come up; the message names its log.
        """
        sockets = self.folder / "sockets"
        command = [
            *(str(self.binaries / "postgres"), "-D", str(self.folder / "data")),
            *("-h", "127.0.0.1", "-p", str(self.port), "-k", str(sockets)),
        ]
        # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients to leave.
        service = Service.start(
            "postgresql",
            command,
            log=self.folder / "log",
            environment=dict(os.environ),
            user=_user(),
            cwd=self.folder,
        )
        wait_until(service, lambda: self._run("pg_isready", "-q", check=False) == 0)
        return service

    def make_database(self, name: str) -> None:
        """Make a database unless it is there."""
        listed = subprocess.run(  # noqa: S603  (a fixed command)
            [*self._client("psql"), "-d", "postgres", "-Atc", "select datname from pg_database"],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        if name not in listed:
            self._run("createdb", name)

    def _client(self, tool: str) -> list[str]:
        return [str(self.binaries / tool), "-h", "127.0.0.1", "-p", str(self.port), "-U", _ROLE]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PGPASSWORD": self.password, "PGCONNECT_TIMEOUT": "5"}

    def _run(self, tool: str, *arguments: str, check: bool = True) -> int:
        return subprocess.run(  # noqa: S603  (a fixed command)
            [*self._client(tool), *arguments], env=self._environment(), check=check, capture_output=True
        ).returncode


def make_cluster(folder: Path) -> Cluster:
    """The cluster in a folder, made on first use with a password that only its owner can read.

    Raises:
        SettingsError: PostgreSQL is not installed, or the cluster cannot be made.
    """
    binaries = find_binaries()
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / "password"
    if not (folder / "data" / "PG_VERSION").exists():
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_urlsafe(24), encoding="ascii")
        _give(folder)
        _initialise(binaries, folder=folder, secret=secret)
    return Cluster(folder=folder, binaries=binaries, port=free_port(), password=secret.read_text("ascii"))


def find_binaries() -> Path:
    """Folder of the newest PostgreSQL server of the system's packages.

    Raises:
        SettingsError: There is none.
    """
    on_path = shutil.which("postgres")
    # A link's target: its neighbours are the client tools of the same version.
    found = [Path(on_path).resolve()] if on_path else []
    found += [Path(name) for name in glob.glob("/usr/lib/postgresql/*/bin/postgres")]  # noqa: PTH207
    if not found:
        raise SettingsError("PostgreSQL is not installed. Install it: apt-get install postgresql.")
    return max(found, key=lambda path: path.parts).parent


def _initialise(binaries: Path, *, folder: Path, secret: Path) -> None:
    (folder / "sockets").mkdir(exist_ok=True)
    _give(folder)
    command = [
        *(str(binaries / "initdb"), "-D", str(folder / "data"), "-U", _ROLE, "--pwfile", str(secret)),
        *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
    ]
    made = subprocess.run(  # noqa: S603  (a fixed command)
        command, user=_user(), cwd=folder, capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise SettingsError(
            f"PostgreSQL could not make a cluster in {folder}: {' '.join(made.stderr.split())}. "
            "Give a folder that its user may write and enter."
        )


def _user() -> str | None:
    # PostgreSQL refuses to run as root; its packages make a user for it.
    return _SYSTEM_USER if os.geteuid() == 0 else None


def _give(folder: Path) -> None:
    user = _user()
    if user is None:
        return
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, user=user)
