"""What can be checked before the first trial is, on every host of the cluster.

A folder that is not shared, pictures that one host lacks, or another version of PyTorch there would
otherwise be noticed after the first epoch, or never.
"""

import hashlib
import platform
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from siamtune import __version__
from siamtune.data.sources import open_source
from siamtune.errors import ClusterError, DataError, InvalidInput, SiamtuneError
from siamtune.launch.cluster import TrialResources, concurrent_trials
from siamtune.launch.job import DataSpec, TrialJob
from siamtune.search.store import is_url, open_store

# What numbers depend on, by its name at the package index.
PACKAGES = (
    "torch", "ray", "optuna", "numpy", "scikit-learn", "opencv-python-headless", "dlib-bin",
    "pytorch-metric-learning", "tensorboard", "safetensors",
)  # fmt: skip
ANSWER_TIMEOUT_S = 180.0  # a host that loads Python from a network disk takes its time
# A network disk may show a new file to another host only after a while.
SIGHT_TIMEOUT_S = 5.0
MARKER = ".seen-by-all-"
SAME_PACKAGES = "install with `pip install -c constraints.txt` on each, or use one image for all"


@dataclass(frozen=True)
class HostFacts:
    """One host of the cluster, as it answered."""

    name: str
    address: str
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Preflight:
    """The hosts that trials may run on, and how many trials they hold at once (0: not yet one)."""

    hosts: tuple[HostFacts, ...]
    concurrent: int


def preflight(
    data: DataSpec,
    resources: TrialResources,
    *,
    output: Path | str | None = None,
    may_grow: bool = False,
) -> Preflight:
    """Check what a search will need, before its first trial; to be called when Ray is connected.

        prepare_environment(address)
        connect(address, resources, verbose=False)
        found = preflight(data, resolved(resources))

    A trial must fit; on every other host of the cluster `output` must be the folder that it is
    here, `data` must hold the same pictures, and the packages must be of the same versions. A
    cluster of one host answers at once. Hosts that join later are looked at by the first trial that
    lands there (`check_host`).

    Args:
        output: a folder that exists here and is meant to be shared, or the URL of an object store;
            None where nothing is to be written.
        may_grow: do not refuse a trial that fits no host yet.

    Raises:
        ClusterError: a trial fits nowhere, a host does not answer, cannot write to `output` or
            sees another folder there, or has other packages.
        DataError: a host does not have the pictures.
    """
    import ray

    try:
        concurrent = concurrent_trials(resources)
    except ClusterError:
        if not may_grow:
            raise
        concurrent = 0
    nodes = [node for node in ray.nodes() if node["Alive"]]
    found = tuple(_facts(node) for node in nodes)
    here = ray.get_runtime_context().get_node_id()
    # A head that holds no trial needs nothing but Ray; this one is known to have all.
    asked = [node for node in nodes if node["NodeID"] != here and _works(node)]
    mine = {node["NodeID"]: facts for node, facts in zip(nodes, found, strict=True)}.get(here)
    if mine is not None and mine.gpus:
        _check_cuda({mine.name: _version("torch")}, resources)
    if not asked:
        return Preflight(found, concurrent)
    name = f"{MARKER}{secrets.token_hex(8)}"
    if isinstance(output, str):
        answers = _ask(asked, data, f"{output}/{name}")
        with suppress(OSError):
            for answer in answers:
                open_store(output).remove(f"{name}/{answer.node_id}")
    else:
        marker = output.absolute() / name if output else None
        try:
            if marker is not None:
                _write_marker(marker)
            answers = _ask(asked, data, str(marker) if marker else None)
            if marker is not None:
                _check_shared(answers, marker)
        finally:
            if marker is not None:
                for path in marker.parent.glob(f"{marker.name}*"):
                    path.unlink(missing_ok=True)
    _check_versions(answers)
    _check_writing(answers, output)
    _check_data(answers, data)
    _check_cuda({each.name: each.versions["torch"] for each in answers if each.gpus}, resources)
    return Preflight(found, concurrent)


def check_host(job: TrialJob) -> None:
    """Refuse a host that cannot hold a trial: it has joined after `preflight`, and is unlike it.

    Raises:
        ClusterError: it has other packages than the driver, does not see the run folder, or its
            PyTorch cannot use the GPU that the trial has.
    """
    here = socket.gethostname()
    wanted = job.versions if job.versions and here != job.driver_host else {}
    faults = [
        f"  {name}: {theirs} on {job.driver_host}, {versions().get(name, 'none')} on {here}"
        for name, theirs in wanted.items()
        if not _same(versions().get(name, "none"), theirs)
    ]
    if faults:
        raise ClusterError(
            "all hosts must have the same packages, or numbers would not compare, but one has "
            "joined with others:\n" + "\n".join(faults) + f"\n{SAME_PACKAGES}"
        )
    if not Path(job.run_folder).is_dir():
        raise ClusterError(
            f"the run folder {job.run_folder} must be seen by every host of the cluster, but "
            f"{here} has none; mount the shared disk there, or take the host out"
        )
    if job.gpus_per_worker and (fault := _cuda_fault()):
        raise ClusterError(
            f"a trial that has a GPU must be able to train on it, but on {here} {fault}; or say "
            "--gpus-per-worker 0"
        )


def _cuda_fault() -> str:
    """Why this process could not train on a GPU, and what to do; "" if it can."""
    import torch

    if torch.cuda.is_available():
        return ""
    built = torch.version.cuda or torch.version.hip
    if built is None:
        return (
            f"PyTorch {torch.__version__} is built without CUDA; install torch from the package "
            "index"
        )
    return (
        f"PyTorch {torch.__version__}, built for CUDA {built}, finds none; look with nvidia-smi "
        "whether the driver runs and knows that CUDA"
    )


def packages() -> dict[str, str]:
    """The packages that numbers depend on, as they are on this host."""
    return {name: _version(name) for name in PACKAGES}


@lru_cache(maxsize=1)
def versions() -> Mapping[str, str]:
    """What must be the same on all hosts: Python, siamtune to the letter, and its packages."""
    return {
        "python": platform.python_version(),
        "siamtune": f"{__version__} (code {_code_digest()})",
        **packages(),
    }


@dataclass(frozen=True)
class _Answer:
    """What a host says about itself; "" where there is nothing to complain about."""

    node_id: str
    name: str
    versions: Mapping[str, str]
    gpus: float
    sees_folder: bool
    cannot_write: str
    lacks_pictures: str
    pictures: Sequence[Any]  # how many, and a digest of their names and sizes


def look_around(
    data: Mapping[str, Any], marker: str | None, patience_s: float, node_id: str, gpus: float
) -> dict[str, Any]:
    """What one host sees; runs there. Plain data in and out, whatever version it has."""
    cannot_write = lacks_pictures = ""
    pictures: tuple[Any, ...] = ()
    store = marker is not None and is_url(marker)
    sees = marker is not None and (store or _seen(Path(marker), patience_s))
    try:
        if marker is not None and store:
            open_store(marker).write(node_id, b"")
        elif sees:
            Path(f"{marker}-{node_id}").write_text("")
    except (OSError, SiamtuneError) as error:
        cannot_write = getattr(error, "strerror", None) or str(error)
    try:
        pictures = _pictures(DataSpec(**data))
    except InvalidInput as error:
        lacks_pictures = str(error)
    answer = _Answer(
        node_id, socket.gethostname(), dict(versions()), gpus, sees, cannot_write, lacks_pictures,
        pictures,
    )  # fmt: skip
    return asdict(answer)


def _ask(nodes: Sequence[Mapping[str, Any]], data: DataSpec, marker: str | None) -> list[_Answer]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(look_around)
    waiting = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        reference = task.options(scheduling_strategy=there).remote(
            asdict(data),
            marker,
            SIGHT_TIMEOUT_S,
            node["NodeID"],
            _facts(node).gpus,
        )
        waiting[reference] = node
    ready, late = ray.wait(list(waiting), num_returns=len(waiting), timeout=ANSWER_TIMEOUT_S)
    # A host that was lost a moment ago is still listed, and needs nothing any more.
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    missed = [_shown(waiting[each]) for each in late if waiting[each]["NodeID"] in alive]
    if missed:
        names = ", ".join(missed)
        raise ClusterError(
            f"every host of the cluster must answer within {ANSWER_TIMEOUT_S:.0f} s, but {names} "
            "did not; `ray status` tells what the cluster knows of it"
        )
    answers = []
    for reference in ready:
        try:
            answers.append(_Answer(**ray.get(reference)))
        except Exception as error:  # Ray wraps whatever went wrong there in errors of many kinds
            node = waiting[reference]
            if node["NodeID"] not in alive:
                continue
            raise ClusterError(
                f"every host must be able to run siamtune, but {_shown(node)} is not: "
                f"{str(error).strip().splitlines()[-1]}; install the same siamtune there, or send "
                "it along with: siamtune submit"
            ) from error
    return sorted(answers, key=lambda answer: answer.name)


def _check_versions(answers: Sequence[_Answer]) -> None:
    """One line a package that differs, with the hosts that have another version."""
    faults = []
    for name, mine in versions().items():
        others: dict[str, list[str]] = {}
        for answer in answers:
            theirs = answer.versions.get(name, "none")
            if not _same(theirs, mine):
                others.setdefault(theirs, []).append(answer.name)
        faults += [
            f"  {name}: {mine} on {socket.gethostname()}, {theirs} on {', '.join(names)}"
            for theirs, names in others.items()
        ]
    if faults:
        raise ClusterError(
            "all hosts must have the same packages, or numbers would not compare, but\n"
            + "\n".join(faults)
            + f"\n{SAME_PACKAGES}"
        )


def _check_writing(answers: Sequence[_Answer], output: Path | str | None) -> None:
    cure = (
        "give all hosts the same way to the store and the same credentials"
        if isinstance(output, str)
        else "mount it for writing, for the user that Ray runs as"
    )
    for answer in answers:
        if answer.cannot_write:
            raise ClusterError(
                f"--output must be writable on all hosts, but {output} is not on {answer.name} "
                f"({answer.cannot_write}); {cure}"
            )


def _check_shared(answers: Sequence[_Answer], marker: Path) -> None:
    folder, here = marker.parent, socket.gethostname()
    blind = [
        answer.name
        for answer in answers
        if not answer.sees_folder
        or (
            not answer.cannot_write
            and not _seen(Path(f"{marker}-{answer.node_id}"), SIGHT_TIMEOUT_S)
        )
    ]
    if blind:
        raise ClusterError(
            f"--output must be a folder that all hosts share, but what {here} writes into {folder} "
            f"is not seen on {', '.join(blind)}; give a folder on a disk that all of them mount "
            "under the same path (NFS, EFS, Filestore, Lustre), or the URL of an object store, "
            "like s3://bucket/runs"
        )


def _check_data(answers: Sequence[_Answer], data: DataSpec) -> None:
    for answer in answers:
        if answer.lacks_pictures:
            raise DataError(
                f"the pictures must be readable on all hosts, but on {answer.name}: "
                f"{answer.lacks_pictures}"
            )
    mine = _pictures(data)
    other = [answer.name for answer in answers if tuple(answer.pictures) != mine]
    if other:
        raise DataError(
            f"{data.source} must hold the same people and pictures on all hosts, but it holds "
            f"others on {', '.join(other)} than on {socket.gethostname()}; use one shared folder, "
            "or copy it anew"
        )


def _check_cuda(torch_versions: Mapping[str, str], resources: TrialResources) -> None:
    """Of the hosts that have GPUs."""
    without = [name for name, version in torch_versions.items() if "+cpu" in version]
    if resources.gpus_per_worker and without:
        raise ClusterError(
            f"trials on GPUs need a PyTorch with CUDA, but it is built without on "
            f"{', '.join(without)}; install torch from the package index, or say "
            "--gpus-per-worker 0"
        )


def _write_marker(marker: Path) -> None:
    try:
        marker.write_text("")
    except OSError as error:
        raise ClusterError(
            f"--output must be a folder that can be written, but {marker.parent}: {error.strerror}"
        ) from error


def _seen(path: Path, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def _pictures(data: DataSpec) -> tuple[Any, ...]:
    """How many pictures a source has, and a digest of their names and sizes: equal in a copy."""
    source = open_source(data.source, Path(data.data_home) if data.data_home else None)
    return len(source.pictures), source.sizes


def _works(node: Mapping[str, Any]) -> bool:
    facts = _facts(node)
    return bool(facts.cpus or facts.gpus)


def _facts(node: Mapping[str, Any]) -> HostFacts:
    have = node["Resources"]
    return HostFacts(
        node["NodeManagerHostname"],
        node["NodeManagerAddress"],
        have.get("CPU", 0.0),
        have.get("GPU", 0.0),
    )


def _shown(node: Mapping[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def _same(version: str, other: str) -> bool:
    """Whether versions are the same but for their build: 2.13.0+cpu computes what 2.13.0 does."""
    return version.partition("+")[0] == other.partition("+")[0]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _code_digest() -> str:
    """Of siamtune's own modules: its version stays the same while it is being changed."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:8]
