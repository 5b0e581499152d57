"""What stands in, inside containers, for the images of ClickHouse and of an S3 store where no registry is reached.

Started as the images are: without arguments it is ClickHouse, out of a library beside this file, with the data
directory, ports, administrator and added configuration of the real image; with arguments it is the store, out of moto.
The engine has nowhere to keep users, so those that ``grants.sql`` makes are in its configuration.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
DATA = Path("/var/lib/clickhouse")
ADDED = Path("/etc/clickhouse-server/config.d/sot-ingest.xml")
PORT, ENGINE_PORT, HTTP_PORT = 9000, 19000, 8123


def user(name: str, password: str, rights: str) -> str:
    """Return a user of the configuration; ``password`` is its element."""
    return (
        f"<{name}>{password}<networks><ip>::/0</ip></networks>"
        f"<profile>default</profile><quota>default</quota>{rights}</{name}>"
    )


def users(statements: str) -> str:
    """Return the users that ``grants.sql`` makes, each with what the role is granted that it gets."""
    made = re.findall(r"(?m)^CREATE USER .*`(.+)` IDENTIFIED WITH sha256_hash BY '(\w+)';$", statements)
    roles = dict(re.findall(r"(?m)^GRANT (\w+) TO `(.+)`;$", statements))
    found = ""
    for role, name in roles.items():
        grants = re.findall(rf"(?m)^(GRANT .* ON .*) TO {role};$", statements)
        rights = "".join(f"<query>{escape(grant)}</query>" for grant in grants)
        password = f"<password_sha256_hex>{dict(made)[name]}</password_sha256_hex>"
        found += user(name, password, f"<grants>{rights}</grants>")
    return found


def clickhouse() -> None:
    """Serve ClickHouse until the container ends."""
    import clickhouse_host  # type: ignore[import-not-found]  # noqa: PLC0415  # beside this file in the container

    added = ET.fromstring(ADDED.read_text("utf-8"))  # noqa: S314  # our own
    disks = "".join(ET.tostring(each, "unicode") for each in added if each.tag in {"storage_configuration", "backups"})
    password = Path(os.environ["CLICKHOUSE_PASSWORD_FILE"]).read_text("utf-8")
    administrator = user(
        os.environ["CLICKHOUSE_USER"],
        f"<password>{escape(password)}</password>",
        "<access_management>1</access_management>",
    )
    own = user("default", "<password/>", "").replace("::/0", "127.0.0.1")  # the engine's, as which it starts
    config = DATA / "config.xml"
    config.write_text(
        f"""<clickhouse>
            <logger/><listen_host>0.0.0.0</listen_host>
            <tcp_port>{ENGINE_PORT}</tcp_port><http_port>{HTTP_PORT}</http_port>
            <path>{DATA}/data/</path>
            <user_directories><users_xml><path>{config}</path></users_xml></user_directories>
            <profiles><default/></profiles><quotas><default/></quotas>
            <users>{own}{administrator}{users((HERE / "grants.sql").read_text("utf-8"))}</users>{disks}
        </clickhouse>""",
        encoding="utf-8",
    )
    listener = socket.create_server(("0.0.0.0", PORT))  # noqa: S104  # the container's
    threading.Thread(target=clickhouse_host.relay, args=(listener, ENGINE_PORT), daemon=True).start()
    clickhouse_host.serve(str(HERE / "libchdb.so"), str(config), exchange="")


def store() -> None:
    """Serve S3 until the container ends."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app  # noqa: PLC0415
    from werkzeug.serving import run_simple  # noqa: PLC0415

    s3 = DomainDispatcherApplication(create_backend_app)

    def app(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == os.environ["VGW_HEALTH"]:
            start_response("200 OK", [])
            return [b""]
        return s3(environ, start_response)

    run_simple("0.0.0.0", int(os.environ["VGW_PORT"].strip(":")), app, threaded=True)  # noqa: S104


def end_with_term() -> None:
    """End the container at once: the engine would never let Python's own handler run."""
    signal.sigwait([signal.SIGTERM])
    os._exit(0)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    threading.Thread(target=end_with_term, daemon=True).start()
    store() if sys.argv[1:] else clickhouse()
