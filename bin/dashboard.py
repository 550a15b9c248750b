#!/usr/bin/env python3
"""Show a job service in the browser: live progress, workers, failures and output of all its projects.

usage: dashboard.py [--port PORT] SERVICE

SERVICE is the root of a job service (http://host:5000/rest_api) or a file with the five settings. No login is used: the
page reads what everybody may read. The embedded job service has this page itself, at /.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.append(str(REPOSITORY / "plugins/module_utils"))

from qsmr.dashboardserver import make_server  # noqa: E402
from qsmr.errors import QsmrError  # noqa: E402
from qsmr.libraries import check_libraries  # noqa: E402
from qsmr.settings import load_settings  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("service", metavar="SERVICE")
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args()
    try:
        check_libraries()
        is_root = "://" in arguments.service
        root = arguments.service.rstrip("/") if is_root else load_settings(arguments.service).job_api_root
        server = make_server(root, REPOSITORY / "images/jobservice/jobservice/dashboard", arguments.port)
    except QsmrError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"Port {arguments.port} cannot be used ({error.strerror}): give another with --port")
    print(
        f"The dashboard of {root}: http://{server.server_address[0]}:{server.server_address[1]}/ (Ctrl-C ends it)",
        flush=True,
    )
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
