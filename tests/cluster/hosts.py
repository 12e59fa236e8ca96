"""Separate hosts on one machine, for what only separate hosts can show.

A host is a network, process, mount and name namespace: it has its own address, its own process
table and its own /tmp/ray, /dev/shm and home; the rest of the file system it shares with the
others, as hosts do that mount one disk. A bridge in a namespace of its own joins them.

Needs root on Linux. Nothing outlives the process that made the hosts, even if that is killed: the
first process of each host reads from a pipe and ends with it, which ends all others there.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NETWORK = "10.77.0"  # of these namespaces only; no other host can see it
TOOLS = ("ip", "unshare", "nsenter", "mount")


@dataclass
class Host:
    """One host. `home` is the same path on every host, with a disk of its own behind it."""

    name: str
    address: str
    home: Path
    pid: int  # of its first process, as this machine sees it
    port: str  # of the switch
    switch_pid: int
    _first: subprocess.Popen[str] = field(repr=False)

    def start(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Start a command on the host, as `subprocess.Popen` does; `env` is added to HOME and PATH.

        A signal to the process that is returned does not reach the command: run `kill` there.
        """
        here = {"PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME": str(self.home), "LANG": "C.UTF-8"}  # fmt: skip
        into = ["nsenter", f"--target={self.pid}", "--net", "--pid", "--mount", "--uts", "--"]
        environment = {**here, **(env or {})}
        return subprocess.Popen([*into, *command], env=environment, text=True, **options)

    def run(
        self,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the host to its end and return what it printed."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        with self.start(command, env, **options) as process:
            try:
                stdout, stderr = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(list(command), process.returncode, stdout, stderr)

    def kill(self) -> None:
        """Pull the plug: every process of the host ends at once, and its memory is gone."""
        self._first.kill()
        self._first.wait()

    def cut_off(self) -> None:
        """Pull the network cable: connections hang, none is refused or closed."""
        _in_switch(self.switch_pid, "link", "set", self.port, "down")

    def reconnect(self) -> None:
        _in_switch(self.switch_pid, "link", "set", self.port, "up")


def why_not() -> str | None:
    """Why hosts cannot be made here, None if they can; installs iproute2 where it is missing."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "hosts are namespaces, which only root on Linux can make"
    if shutil.which("ip") is None and shutil.which("apt-get"):
        for action in (["update", "-qq"], ["install", "-y", "-qq", "iproute2"]):
            subprocess.run(["apt-get", *action], capture_output=True)
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"{', '.join(missing)} must be installed to make namespaces"
    tried = subprocess.run(
        ["unshare", "--net", "--pid", "--mount", "--uts", "--fork", "--mount-proc", "sh", "-ec",
         "ip link add try0 type veth peer name try1; ip link add lan type bridge; "
         "mount -t tmpfs try /mnt"],
        capture_output=True, text=True,
    )  # fmt: skip
    return f"namespaces cannot be made here: {tried.stderr.strip()}" if tried.returncode else None


@contextmanager
def hosts(number: int, folder: Path) -> Iterator[list[Host]]:
    """So many hosts named host1, host2, ...; `folder` is where their homes are mounted.

    Raises:
        OSError: they cannot be made; `why_not` says so before.
    """
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    Path("/tmp/ray").mkdir(exist_ok=True)
    names = "".join(f"{NETWORK}.{n} host{n}\n" for n in range(1, number + 1))
    (folder / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
    made: list[subprocess.Popen[str]] = []
    try:
        switch = _first_process(["--net"], "ip link add lan type bridge; ip link set lan up")
        made.append(switch)
        switch_pid = _child(switch)
        found = []
        for n in range(1, number + 1):
            first = _first_process(
                ["--net", "--mount", "--uts", "--mount-proc"],
                f"hostname host{n}; mount -t tmpfs ray /tmp/ray; mount -t tmpfs shm /dev/shm; "
                f"mount -t tmpfs home {shlex.quote(str(home))}; "
                f"mount --bind {shlex.quote(str(folder / 'hosts'))} /etc/hosts; ip link set lo up",
            )
            made.append(first)
            pid, port = _child(first), f"port{n}"
            _in_switch(switch_pid, "link", "add", port, "type", "veth",
                       "peer", "name", "eth0", "netns", str(pid))  # fmt: skip
            _in_switch(switch_pid, "link", "set", port, "master", "lan", "up")
            host = Host(f"host{n}", f"{NETWORK}.{n}", home, pid, port, switch_pid, first)
            for line in (
                f"address add {host.address}/24 dev eth0",
                "link set eth0 up",
                f"route add default via {NETWORK}.254",  # by it Ray learns the host's address
            ):
                done = host.run(["ip", *line.split()])
                if done.returncode:
                    raise OSError(f"ip {line}: {done.stderr.strip()}")
            found.append(host)
        yield found
    finally:
        for first in reversed(made):
            first.kill()
            first.wait()


def _first_process(namespaces: list[str], commands: str) -> subprocess.Popen[str]:
    """Process 1 of new namespaces: runs the commands, says so, and lives until its pipe closes.

    A shell, because process 1 must bury the orphans of its host: `ray stop` waits for them to go.
    """
    unshare = ["unshare", "--pid", "--fork", "--kill-child", *namespaces]
    process = subprocess.Popen(
        [*unshare, "bash", "-ec", f"{commands}; echo up; read -r _"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    if process.stdout.readline() != "up\n":
        process.kill()
        raise OSError(f"a host could not be made: {process.stderr.read().strip()}")
    return process


def _child(process: subprocess.Popen[str]) -> int:
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(child)


def _in_switch(switch_pid: int, *words: str) -> None:
    done = subprocess.run(
        ["nsenter", f"--net=/proc/{switch_pid}/ns/net", "ip", *words],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")
