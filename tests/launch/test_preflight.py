"""What is checked before the first trial. On separate hosts: tests/cluster/test_separate_hosts.py.

Here the one host of the session's Ray is taken for another one than the driver's.
"""

import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from siamtune.config import DEFAULTS
from siamtune.errors import ClusterError, DataError
from siamtune.launch import preflight as room
from siamtune.launch.cluster import TrialResources
from siamtune.launch.job import DataSpec, TrialJob
from siamtune.launch.preflight import (
    check_host,
    look_around,
    packages,
    preflight,
    versions,
)
from siamtune.launch.watch import run_watched

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_here")]
DEMO = DataSpec("demo")
SMALL = TrialResources(cpus_per_worker=0.5)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """The driver takes itself for another host; the name of the one that answers."""
    import ray

    (node,) = ray.nodes()
    nowhere = SimpleNamespace(get_node_id=lambda: "nowhere")
    monkeypatch.setattr("ray.get_runtime_context", lambda: nowhere)
    return str(node["NodeManagerHostname"])


def test_one_host_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_ask", None)
    found = preflight(DEMO, SMALL, output=tmp_path)
    assert len(found.hosts) == 1
    assert found.concurrent == found.hosts[0].cpus / 0.5
    assert not list(tmp_path.iterdir())


def test_a_host_that_is_like_this_one_passes_and_no_marker_stays(
    tmp_path: Path, pattern_people: Path, elsewhere: str
) -> None:
    found = preflight(DataSpec(str(pattern_people)), SMALL, output=tmp_path)
    assert [host.name for host in found.hosts] == [elsewhere]
    assert not list(tmp_path.iterdir())


def test_every_package_that_differs_is_told_with_its_host(
    tmp_path: Path, elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = {**versions(), "python": "3.10.1", "torch": "1.0", "numpy": versions()["numpy"]}
    monkeypatch.setattr(room, "versions", lambda: mine)
    with pytest.raises(ClusterError) as raised:
        preflight(DEMO, SMALL, output=tmp_path)
    message = str(raised.value)
    assert f"torch: 1.0 on {elsewhere}, {packages()['torch']} on {elsewhere}" in message
    assert "python: 3.10.1" in message
    assert "numpy" not in message
    assert "constraints.txt" in message
    assert not list(tmp_path.iterdir())


def test_a_folder_that_the_host_does_not_see_is_refused(
    tmp_path: Path, elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SIGHT_TIMEOUT_S", 0.0)
    ask = room._ask

    def ask_about_another(nodes: Any, data: DataSpec, marker: str) -> Any:
        """The host looks at a disk of its own under the same path."""
        return ask(nodes, data, str(tmp_path / "its own" / Path(marker).name))

    monkeypatch.setattr(room, "_ask", ask_about_another)
    with pytest.raises(ClusterError, match=f"all hosts share.*is not seen on {elsewhere}"):
        preflight(DEMO, SMALL, output=tmp_path)
    assert not list(tmp_path.iterdir())


def test_pictures_that_the_host_lacks_are_told(
    tmp_path: Path, pattern_people: Path, elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=f"on {elsewhere}: .*does not exist"):
        preflight(DataSpec(str(tmp_path / "people")), SMALL)
    mine = room._pictures(DEMO)
    monkeypatch.setattr(room, "_pictures", lambda data: mine)
    with pytest.raises(DataError, match=f"it holds others on {elsewhere}"):
        preflight(DataSpec(str(pattern_people)), SMALL)


def test_a_copy_of_the_pictures_is_as_good(pattern_people: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(pattern_people, tmp_path / "copy", copy_function=shutil.copy)
    there = look_around(vars(DataSpec(str(copy))), None, 0.0, "n", 0.0)
    assert there["pictures"] == room._pictures(DataSpec(str(pattern_people)))
    (copy / "person 00" / "0.png").unlink()
    fewer = look_around(vars(DataSpec(str(copy))), None, 0.0, "n", 0.0)
    assert fewer["pictures"] != there["pictures"]


def test_a_host_that_was_lost_a_moment_ago_is_not_asked_for_an_answer() -> None:
    import ray

    (node,) = ray.nodes()
    lost = {**node, "NodeID": "0" * len(node["NodeID"]), "NodeManagerHostname": "lost"}
    answers = room._ask([lost, node], DEMO, None)
    assert [answer.node_id for answer in answers] == [node["NodeID"]]


@pytest.mark.parametrize("host", ["mine", "another"])
def test_gpus_are_of_no_use_to_a_torch_without_cuda(
    host: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    (node,) = ray.nodes()
    with_gpu = {**node, "Resources": {"CPU": 2.0, "GPU": 1.0}}
    if host == "another":
        request.getfixturevalue("elsewhere")
    monkeypatch.setattr("ray.nodes", lambda: [with_gpu])
    monkeypatch.setattr(room, "versions", lambda: {"torch": "2.13.0+cpu"})
    monkeypatch.setattr(room, "_version", {"torch": "2.13.0+cpu"}.get)
    answer = room._Answer(node["NodeID"], node["NodeManagerHostname"], {"torch": "2.13.0+cpu"},
                          1.0, True, "", "", room._pictures(DEMO))  # fmt: skip
    monkeypatch.setattr(room, "_ask", lambda *given: [answer])
    with pytest.raises(ClusterError, match=f"built without on {node['NodeManagerHostname']}"):
        preflight(DEMO, TrialResources(gpus_per_worker=1.0))
    assert preflight(DEMO, TrialResources(gpus_per_worker=0.0)).concurrent == 2


def test_a_trial_does_not_train_on_the_processor_when_it_has_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    job = TrialJob(0, DEFAULTS, {}, str(tmp_path), DEMO, gpus_per_worker=0.5)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    (result,) = run_watched(job)
    assert (result["state"], result["unfit_host"]) == ("interrupted", True)
    assert "is built without CUDA; install torch from the package index" in result["reason"]
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(ClusterError, match=r"built for CUDA 13\.0, finds none"):
        check_host(job)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_host(job)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_host(replace(job, gpus_per_worker=0.0))


def test_a_trial_that_fits_nowhere_is_refused_unless_the_cluster_may_grow() -> None:
    huge = TrialResources(cpus_per_worker=1000.0)
    with pytest.raises(ClusterError, match="one trial needs 1 x 1000 CPU"):
        preflight(DEMO, huge)
    assert preflight(DEMO, huge, may_grow=True).concurrent == 0


def test_a_host_that_came_later_and_does_not_see_the_run_is_refused(tmp_path: Path) -> None:
    run_folder = tmp_path / "runs" / "run"
    job = TrialJob(0, DEFAULTS, {}, str(run_folder), DEMO, "val/auc", "max")
    (result,) = run_watched(job)
    assert (result["state"], result["unfit_host"]) == ("interrupted", True)
    assert "must be seen by every host" in result["reason"]
    assert not run_folder.parent.exists()  # the next trial there must be refused as well


def test_a_host_that_came_later_with_other_packages_is_refused(tmp_path: Path) -> None:
    of_driver = {**versions(), "torch": "1.0", "numpy": "none"}
    job = TrialJob(
        0, DEFAULTS, {}, str(tmp_path), DEMO, "val/auc", "max",
        driver_host="head", versions=of_driver,
    )  # fmt: skip
    (result,) = run_watched(job)
    assert (result["state"], result["unfit_host"]) == ("interrupted", True)
    torch_here = packages()["torch"]
    assert f"  torch: 1.0 on head, {torch_here} on {socket.gethostname()}" in result["reason"]
    assert result["reason"].count(" on head, ") == 2
    check_host(replace(job, versions={**versions(), "torch": torch_here.partition("+")[0]}))
    check_host(replace(job, driver_host=socket.gethostname()))  # it need not be asked


def test_the_dashboard_listens_on_the_loopback() -> None:
    import ray

    assert ray._private.worker.global_worker.node.webui_url.startswith("127.0.0.1:")
