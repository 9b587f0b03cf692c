"""Which workers predict clouds: processes of this machine, or those of a cluster."""

import re
from dataclasses import dataclass
from importlib.util import find_spec

from vl3d_lite.errors import SpecError

MOST_WORKERS = 10_000
_ADDRESS = re.compile(r"(tcp|tls|ucx|ws|wss)://\S+")


@dataclass(frozen=True)
class Workers:
    """The workers of a command.

    Attributes:
        count: Processes of this machine, or workers to ask a batch system for; None
            for those that a scheduler has, or that the file names.
        cluster: Address of a Dask scheduler (``tcp://HOST:8786``) or a YAML file for
            dask-jobqueue; empty for this machine.
    """

    count: int | None = None
    cluster: str = ""

    def __post_init__(self) -> None:
        if self.count is not None and not 1 <= self.count <= MOST_WORKERS:
            raise SpecError(
                f"--workers must be from 1 to {MOST_WORKERS:,}. Received: {self.count}"
            )
        if not self.cluster:
            if self.count is None:
                raise SpecError("workers need a count or a cluster")
        elif self.joins:
            if self.count is not None:
                raise SpecError(
                    f"--cluster {self.cluster}: the scheduler has its own workers; "
                    "leave --workers out"
                )
        elif not self.cluster.lower().endswith((".yaml", ".yml")):
            raise SpecError(
                "--cluster must be the address of a Dask scheduler, such as "
                "tcp://node1:8786, or a .yaml file for dask-jobqueue. "
                f"Received: {self.cluster}"
            )

    @property
    def joins(self) -> bool:
        """Whether they belong to a scheduler that runs already."""
        return _ADDRESS.fullmatch(self.cluster) is not None

    def require_installed(self) -> None:
        """Check that the libraries of the extra `cluster` are installed.

        Raises:
            SpecError: They are not. The message names the command that installs
                them.
        """
        needed = ["distributed"]
        if self.cluster and not self.joins:
            needed.append("dask_jobqueue")
        missing = [name for name in needed if find_spec(name) is None]
        if missing:
            raise SpecError(
                f"--workers and --cluster need {' and '.join(missing)}; install the "
                'extra with `pip install "vl3d-lite[cluster]"`'
            )


def workers_of(count: int | None, cluster: str | None) -> Workers | None:
    """The workers of ``--workers`` and ``--cluster``; None where neither is given.

    Raises:
        SpecError: The options do not fit, or need a library that is not installed.
    """
    if count is None and not cluster:
        return None
    workers = Workers(count, cluster or "")
    workers.require_installed()
    return workers
