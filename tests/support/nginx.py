"""A real nginx (Debian's package) with deploy/nginx.conf in front of a server, on a free port of 127.0.0.1; and, at
/plain/, with what it does of itself: HTTP/1.0, answers buffered."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.paths import REPOSITORY
from tests.support.waiting import wait_until

PATH = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

_CONFIG = """
{user}
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/proxied;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        {locations}
        location /plain/ {{
            proxy_pass {url}/;
        }}
    }}
}}
"""


@contextmanager
def before(url: str) -> Iterator[str]:
    """nginx in front of that server; nginx's address."""
    assert PATH
    shipped = (REPOSITORY / "deploy" / "nginx.conf").read_text()
    assert "http://127.0.0.1:8000/" in shipped
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "nginx.conf")
        locations = shipped.replace("http://127.0.0.1:8000/", f"{url}/")
        user = "user root;" if os.geteuid() == 0 else ""
        config.write_text(_CONFIG.format(user=user, folder=folder, port=port, url=url, locations=locations))
        process = subprocess.Popen([PATH, "-e", "stderr", "-c", str(config)])
        try:
            wait_until(lambda: process.poll() is not None or _answers(port))
            assert process.poll() is None
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def _answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
