"""Builds a stage of the Containerfile where there is no container engine: every RUN in a chroot.

A root that debootstrap made stands in for the base image. What is copied between stages is linked.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.containerfile import Stage, pairs, substituted

# How this machine reaches the package registries, which an image has no part in.
_REACH = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
_FOLDERS = ("/opt/wheels", "/opt/pypi", "/opt/pypi-more")
_VARIABLES = re.compile(r"(PIP_|UV_|SSL_|REQUESTS_|CURL_)\w+|(https?|no)_proxy", re.IGNORECASE)


class Build:
    """base: the root that stands in for every image. context: what COPY copies from. The roots of stages are kept in
    the folder `roots`."""

    def __init__(
        self, stages: Mapping[str, Stage], base: Path, context: Path, roots: Path, arguments: Mapping[str, str]
    ) -> None:
        self._stages = stages
        self._base = base
        self._context = context
        self._roots = roots
        self._arguments = arguments
        self._made: dict[str, tuple[Path, dict[str, str], str]] = {}
        self.commands = 0  # RUN instructions that were executed

    def stage(self, name: str) -> tuple[Path, dict[str, str], str]:
        """The root, the environment and the working directory of a stage. Raises CalledProcessError."""
        if name not in self._made:
            self._made[name] = self._build(self._stages[name])
        return self._made[name]

    def _build(self, stage: Stage) -> tuple[Path, dict[str, str], str]:
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        below, inherited, folder = self._base, {"PATH": path}, "/"
        if stage.base in self._stages:
            below, inherited, folder = self.stage(stage.base)
        for each in stage.instructions:  # those first that this one copies from: one stage at a time
            if found := re.match(r"--from=(\S+)", each.text):
                self.stage(found[1])
        print(f"== {stage.name}, from {stage.base}", flush=True)
        root = self._roots / stage.name
        subprocess.run(["cp", "-a", below, root], check=True)
        environment, arguments = dict(inherited), dict[str, str]()
        for each in stage.instructions:
            variables = {**arguments, **environment}
            match each.word:
                case "ARG":
                    name, _, default = each.text.partition("=")
                    arguments[name] = self._arguments.get(name, substituted(default, variables))
                case "ENV":
                    environment |= pairs(each.text, variables)
                case "WORKDIR":
                    folder = each.text
                    (root / folder[1:]).mkdir(parents=True, exist_ok=True)
                case "COPY":
                    self._copy(root, folder, shlex.split(substituted(each.text, variables)))
                case "RUN":
                    print(f"-- RUN {each.text}", flush=True)
                    self._run(root, folder, each.text, variables)
                    self.commands += 1
        return root, environment, folder

    def _copy(self, root: Path, folder: str, words: Sequence[str]) -> None:
        source, link = self._context, ""
        if words[0].startswith("--from="):
            source, link = self.stage(words[0].partition("=")[2])[0], "l"
            words = words[1:]
        *names, to = words
        target = root / (Path(folder) / to).as_posix().lstrip("/")
        for name in names:
            for found in sorted(source.glob(name.lstrip("/"))):
                inside = to.endswith("/") and not found.is_dir()
                target.parent.mkdir(parents=True, exist_ok=True)
                subprocess.run(["cp", f"-a{link}T", found, target / found.name if inside else target], check=True)
                if not link:
                    subprocess.run(["chown", "-R", "0:0", target], check=True)

    def _run(self, root: Path, folder: str, text: str, variables: Mapping[str, str]) -> None:
        caches = re.findall(r"--mount=type=cache,target=(\S+)", text)
        script = re.sub(r"--mount=\S+", "", text).strip()
        reach = {name: value for name, value in os.environ.items() if _VARIABLES.fullmatch(name)}
        # A Debian's pip refuses what the one of Python's image does.
        environment = {**variables, **reach, "PIP_BREAK_SYSTEM_PACKAGES": "1", "HOME": "/root"}
        mounts = [f"mount -t proc proc {root}/proc", f"mount --rbind /dev {root}/dev"]
        for file in filter(os.path.exists, _REACH):
            inside = root / file[1:]
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.touch()
            mounts.append(f"mount --bind {os.path.realpath(file)} {inside}")
        mounts += [_bound(root, cache, self._roots.parent / "cache" / Path(cache).name) for cache in caches]
        mounts += [_bound(root, folder, Path(folder)) for folder in _FOLDERS if os.path.exists(folder)]
        inner = f"cd {shlex.quote(folder)} && {script}"
        command = f"set -e; {'; '.join(mounts)}; exec chroot {root} /bin/sh -c {shlex.quote(inner)}"
        subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", command], check=True, env=environment
        )


def _bound(root: Path, inside: str, outside: Path) -> str:
    outside.mkdir(parents=True, exist_ok=True)
    (root / inside[1:]).mkdir(parents=True, exist_ok=True)
    return f"mount --bind {outside} {root}{inside}"


def base_image(root: Path) -> None:
    """A Debian with Python, as `python:3.11-slim-bookworm` has it: `python` under /usr/local. Needs debootstrap."""
    if not shutil.which("debootstrap"):
        raise SystemExit("debootstrap is not installed: apt-get install debootstrap")
    packages = "--include=python3,python3-venv,python3-pip,ca-certificates"
    subprocess.run(["debootstrap", "--variant=minbase", packages, "bookworm", root], check=True)
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
