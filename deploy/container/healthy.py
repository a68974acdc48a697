"""The container's health check: status 0 while the daemon answers, 1 when it does not.

An Ollama that is away leaves foreman healthy: it is waited for. This starts every 30 seconds for as
long as the container runs, so it takes a socket and no more of the standard library than that.
"""

import os
import socket
import sys

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

port = os.environ.get("FOREMAN_LISTEN", "").rpartition(":")[2] or "8080"
try:
    with socket.create_connection(("127.0.0.1", int(port)), timeout=4) as daemon:
        daemon.sendall(REQUEST)
        answer = daemon.makefile("rb").readline().decode("latin-1").strip()
except OSError as error:
    sys.exit(f"no answer on port {port}: {error}")
if answer.split(" ")[1:2] != ["200"]:
    sys.exit(f"/healthz on port {port} answered {answer or 'nothing'}")
