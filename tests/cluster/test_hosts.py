"""The hosts that other tests run clusters on are what they say they are."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from hosts import Host, hosts, why_not

ANSWER = "import socket; socket.create_server(('', 7), backlog=1).accept()"
CALL = "import socket, sys; socket.create_connection((sys.argv[1], 7), timeout=2)"


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    if reason := why_not():
        pytest.skip(reason)
    with hosts(2, tmp_path) as (first, second):
        yield first, second


def calls(caller: Host, called: Host) -> bool:
    """Whether one host reaches a port of the other, by its name."""
    listener = called.start(["timeout", "5", "python3", "-c", ANSWER])
    try:
        for _ in range(20):  # until it listens
            done = caller.run(["python3", "-c", CALL, called.name])
            if "refused" not in done.stderr:
                return done.returncode == 0
        return False
    finally:
        listener.kill()


def test_hosts_have_their_own_address_processes_name_and_disk_and_share_the_rest(
    two: tuple[Host, Host], tmp_path: Path
) -> None:
    first, second = two
    for host in two:
        assert host.run(["hostname"]).stdout.strip() == host.name
        assert f" {host.address}/" in host.run(["ip", "-4", "address", "show", "eth0"]).stdout
        assert len(host.run(["ps", "-e", "--no-headers"]).stdout.splitlines()) == 2  # its first, ps
    first.run(["touch", str(first.home / "mine"), "/dev/shm/mine", str(tmp_path / "ours")])
    there = ["ls", str(second.home), "/dev/shm", str(tmp_path)]
    assert second.run(there).stdout.count("mine") == 0
    assert "ours" in second.run(there).stdout
    assert not (first.home / "mine").exists()


def test_a_host_can_be_cut_off_and_killed(two: tuple[Host, Host]) -> None:
    first, second = two
    assert calls(first, second)
    second.cut_off()
    assert not calls(first, second)
    second.reconnect()
    assert calls(first, second)
    sleeper = second.start(["sleep", "60"])
    second.kill()
    assert sleeper.wait(5) != 0
    assert first.run(["hostname"]).returncode == 0
