"""Several hosts on one machine: network, mount and name spaces of their own, joined by links of a chosen rate.

    with Hosts(2, slots=2) as hosts:
        hosts.limit("100mbit")
        subprocess.run(hosts.mpirun(4, ["TrainingDriver", "--model", "mnist"]), check=True)

The machine's own network has no part in it: the switch is in a namespace too. Hosts see the same files, but for
/dev/shm. Rates are of each host, sent and received; bursts of up to 64 kB are not held back. Wants Linux, root, and the
commands that are listed below.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

COMMANDS = ("ip", "tc", "nsenter", "unshare", "mount", "umount")
SUBNET = "10.213.7"

#: What the launcher calls in ssh's stead: [options] HOST COMMAND.
ENTER = """#!/bin/bash
while [[ $1 == -* ]]; do case $1 in -[opliFb]) shift 2;; *) shift;; esac; done
host=$1; shift
exec nsenter --net=/run/netns/{prefix}$host --uts={folder}/$host unshare --mount --ipc bash -c '
  mount --bind {folder}/hosts /etc/hosts && mount -t tmpfs tmpfs /dev/shm && exec bash -c "$*"' enter "$@"
"""


def missing() -> str | None:
    """Why there can be no hosts here; None where there can."""
    absent = [name for name in COMMANDS if shutil.which(name) is None]
    if absent:
        return f"hosts need the command {absent[0]}"
    if os.geteuid():
        return "hosts need root"
    trial = f"nnlo{os.getpid()}t"
    if run("ip", "netns", "add", trial, check=False):
        return "hosts need network namespaces, which this system does not let a process make"
    run("ip", "netns", "del", trial)
    return None


class Hosts:
    """h1 to hN, `slots` ranks each in turn."""

    def __init__(self, count: int, slots: int = 1) -> None:
        self.names = [f"h{place}" for place in range(1, count + 1)]
        self._slots, self._prefix = slots, f"nnlo{os.getpid()}"
        self._switch = f"{self._prefix}sw"
        self.folder = Path(tempfile.mkdtemp(prefix="nnlo-hosts-"))

    def __enter__(self) -> Hosts:
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _make(self) -> None:
        run("ip", "netns", "add", self._switch)
        run("ip", "-n", self._switch, "link", "add", "switch", "type", "bridge")
        run("ip", "-n", self._switch, "link", "set", "switch", "up")
        addresses = [f"{SUBNET}.{place} {name}" for place, name in enumerate(self.names, 1)]
        (self.folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *addresses, ""]))
        (self.folder / "enter").write_text(ENTER.format(prefix=self._prefix, folder=self.folder))
        (self.folder / "enter").chmod(0o755)
        for place, name in enumerate(self.names, 1):
            self._make_host(name, f"{SUBNET}.{place}/24")

    def _make_host(self, name: str, address: str) -> None:
        space = self._prefix + name
        run("ip", "netns", "add", space)
        run("ip", "link", "add", "eth0", "netns", space, "type", "veth", "peer", "name", name, "netns", self._switch)
        run("ip", "-n", self._switch, "link", "set", name, "master", "switch", "up")
        run("ip", "-n", space, "addr", "add", address, "dev", "eth0")
        for link in ("lo", "eth0"):
            run("ip", "-n", space, "link", "set", link, "up")
        (self.folder / name).touch()
        run("unshare", f"--uts={self.folder / name}", "hostname", name)

    def limit(self, rate: str | None) -> None:
        """Hold each host's sending and receiving to `rate`, in tc's words ("100mbit"); None: as fast as it goes."""
        for name in self.names:
            for space, link in ((self._prefix + name, "eth0"), (self._switch, name)):
                run("tc", "-n", space, "qdisc", "del", "dev", link, "root", check=False)
                if rate is not None:
                    how = ("tbf", "rate", rate, "burst", "64kb", "latency", "50ms")
                    run("tc", "-n", space, "qdisc", "add", "dev", link, "root", *how)

    def mpirun(
        self, ranks: int, program: Sequence[str], prefix: Path = Path(sys.prefix), options: Sequence[str] = ()
    ) -> list[str]:
        """The command that runs `program` on so many ranks, from h1; mpirun and its library lie below `prefix`."""
        binary, enter = prefix / "bin" / "mpirun", str(self.folder / "enter")
        listed = self.folder / "hostfile"
        told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
        openmpi = "Open MPI" in told
        form = "{} slots={}\n" if openmpi else "{}:{}\n"
        listed.write_text("".join(form.format(name, self._slots) for name in self.names))
        library = prefix / "lib" / "libmpi.so.40"
        how = openmpi_flags(enter, listed, library) if openmpi else mpich_flags(enter, listed)
        line = [*how[0], str(binary), *how[1], *options, "-np", str(ranks), *program]
        return [enter, "h1", shlex.join(["env", "OMP_NUM_THREADS=1", *line])]

    def close(self) -> None:
        """End what still runs on the hosts, and remove them."""
        for space in [*(self._prefix + name for name in self.names), self._switch]:
            found = subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True, check=False)
            for pid in map(int, found.stdout.split()):
                os.kill(pid, signal.SIGKILL)
            run("ip", "netns", "del", space, check=False)
        for name in self.names:
            run("umount", str(self.folder / name), check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def mpich_flags(enter: str, hostfile: Path) -> tuple[list[str], list[str]]:
    """Variables, and arguments of mpirun: TCP between hosts."""
    variables = ["MPIR_CVAR_CH4_NETMOD=ofi", "FI_PROVIDER=tcp", "FI_TCP_IFACE=eth0"]
    return variables, ["-launcher", "ssh", "-launcher-exec", enter, "-iface", "eth0", "-f", str(hostfile)]


def openmpi_flags(enter: str, hostfile: Path, library: Path) -> tuple[list[str], list[str]]:
    """The same for Open MPI."""
    variables = ["OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"]
    variables.append(f"MPI4PY_LIBMPI={library}")
    network = ["--prtemca", "prte_if_include", f"{SUBNET}.0/24", "--mca", "btl_tcp_if_include", f"{SUBNET}.0/24"]
    launcher = ["--hostfile", str(hostfile), "--bind-to", "none", "--prtemca", "plm_ssh_agent", enter]
    return variables, [*launcher, *network, "--mca", "btl", "tcp,self,sm", "--mca", "pml", "ob1"]


def run(*command: str, check: bool = True) -> int:
    """A command without output; its exit code."""
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=check)
    return done.returncode
