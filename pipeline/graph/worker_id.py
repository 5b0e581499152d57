"""What the id of a luigi worker says about its process, and whether that process is gone.

luigi's ids name host, user and pid. A pid can be used again, and containers have pids of their own and may share a host
name, so ours also name the pid namespace, when the process started, and the deployment; what this system does not tell
of them is empty.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import secrets
import socket
from functools import cache
from pathlib import Path

import psutil


def new_id(work_path: Path) -> str:
    """Return an id for a worker of this process, in the form of luigi's."""
    facts = {
        "salt": secrets.token_hex(5),
        "host": socket.gethostname(),
        "username": _user(),
        "pid": os.getpid(),
        "namespace": _namespace(),
        "started": _started(os.getpid()),
        "deployment": _deployment(work_path),
    }
    return f"Worker({', '.join(f'{name}={value}' for name, value in facts.items())})"


def is_gone(worker_id: str) -> bool:
    """Tell whether another worker than this process's own is known to have ended, which only this host's can be."""
    facts = _facts(worker_id)
    here = facts.get("host") == socket.gethostname() and facts.get("namespace", _namespace()) == _namespace()
    if not here or not facts.get("pid", "").isdigit():
        return False
    pid = int(facts["pid"])
    try:
        is_alive = psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        is_alive = False
    if "started" in facts:
        is_alive = is_alive and facts["started"] == _started(pid)
    return not is_alive or pid == os.getpid()  # a process has one worker after another


def is_of_deployment(worker_id: str, work_path: Path) -> bool:
    """Tell whether the worker's run used this very work directory, and with it the locks there."""
    deployment = _facts(worker_id).get("deployment")
    return bool(deployment) and deployment == _deployment(work_path)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container with a user of its own choice
        return str(os.getuid())


def _facts(worker_id: str) -> dict[str, str]:
    return dict(re.findall(r"(\w+)=([^,()]*)", worker_id))


@cache
def _namespace() -> str:
    """Return what tells this kernel's start and this process's pid namespace from all others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot[:8]}-{Path('/proc/self/ns/pid').readlink().name.strip('pid:[]')}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Return when a process started, in the kernel's ticks since its own start: no change of the clock changes it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _deployment(work_path: Path) -> str:
    """Return what tells a work directory from all others: two containers that share one have the same kernel."""
    try:
        status = work_path.stat()
    except OSError:
        return ""
    kernel = _namespace().partition("-")[0] or socket.gethostname()
    return hashlib.sha256(f"{kernel} {status.st_dev} {status.st_ino}".encode()).hexdigest()[:12]
