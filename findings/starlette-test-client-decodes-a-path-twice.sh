#!/usr/bin/env bash
# Versions: starlette 1.10.0, uvicorn 0.54.0, httpx 0.28.1; Python 3.11
# Expected: a test client hands the application the path that a server would.
# Seen: /p/100%2525 is SKU 100%25 through uvicorn, and 100% through the TestClient; /p/a%252Fb is a%2Fb through
#   uvicorn, and not found in the test. Reported as issue 2587 of the project and closed.
# Why it matters: SKUs hold percent signs and slashes. A test of such a link passes on a wrong page, or fails on a
#   right one. Test them against a real server.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    starlette==1.10.0 uvicorn==0.54.0 httpx==0.28.1 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import socket, sys, threading, time, urllib.error, urllib.request, warnings
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

warnings.simplefilter("ignore")
from starlette.testclient import TestClient

app = Starlette(routes=[Route("/p/{sku}", lambda request: PlainTextResponse(request.path_params["sku"]))])
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
thread = threading.Thread(target=server.run, args=([listening],))
thread.start()
while not server.started:
    time.sleep(0.05)

def real(path):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{listening.getsockname()[1]}{path}").read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()

paths = ["/p/100%25", "/p/100%2525", "/p/a%252Fb"]
served, tested = [real(path) for path in paths], [TestClient(app).get(path).text for path in paths]
server.should_exit = True
thread.join()
print("paths:     ", paths)
print("uvicorn:   ", served)
print("TestClient:", tested)
sys.exit(not (served == ["100%", "100%25", "a%2Fb"] and tested == ["100%", "100%", "Not Found"]))
PYTHON
