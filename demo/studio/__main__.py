"""Draw what moves over a picture, see it move, render it: the studio, a page in the browser, on this machine alone.

python -m demo.studio                     # or: make studio
python -m demo.studio --config configs/inference.yaml --port 8000 --folder my_projects
python -m demo.studio --host 0.0.0.0      # others on the network too, who need the printed address with its token
"""

from __future__ import annotations

import secrets
import socket

from text2cinemagraph.data.project import CONFIG
from text2cinemagraph.options.cli import Parser, number, run_main
from text2cinemagraph.options.places import located_config

NEEDS = "the studio needs starlette and uvicorn: pip install -r requirements-studio.txt (or: make studio)"


def main(argv: list[str] | None = None) -> None:
    """Read the command line, bind the address, serve until Ctrl-C."""
    parser = Parser(
        usage="python -m demo.studio [--config YAML] [--port N] [--host ADDRESS] [--folder FOLDER]", description=__doc__
    )
    parser.add_argument("--config", default=CONFIG, help="YAML of new projects (default: %(default)s)")
    parser.add_argument(
        "--port", type=number(least=0, most=65_535), default=7860, help="0: any that is free (default: %(default)s)"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to bind (default: %(default)s: this machine alone)"
    )
    parser.add_argument("--folder", default="outputs/studio", help="where projects are kept (default: %(default)s)")
    flags = parser.parse_args(argv)
    if not located_config(flags.config).is_file():
        raise FileNotFoundError(f"no configuration file at {flags.config}; known ones are in configs/")
    try:
        import uvicorn
        from text2cinemagraph.demo.studio.api import Studio, make_app
        from text2cinemagraph.demo.studio.guard import QUERY, is_loopback
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn", "anyio", "h11"):
            raise
        raise ModuleNotFoundError(NEEDS) from error

    token = secrets.token_urlsafe(24)
    listening = _bound(flags.host, flags.port)
    port = listening.getsockname()[1]
    studio = Studio(flags.folder, flags.config, token)
    shown = f"[{flags.host}]" if ":" in flags.host else flags.host
    address = f"http://{shown}:{port}/" + ("" if is_loopback(flags.host) else f"?{QUERY}={token}")
    print(f"studio: {address}   (Ctrl-C ends it; projects are in {flags.folder})", flush=True)
    settings = uvicorn.Config(
        make_app(studio, flags.host),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    uvicorn.Server(settings).run(sockets=[listening])


def _bound(host, port):
    """A socket that is bound to the address.  Raises OSError in words."""
    if not 0 <= port <= 65535:
        raise ValueError(f"--port {port}: expected 0 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)  # who opens the printed address at once waits, and is not turned away
    except (OSError, OverflowError) as error:
        listening.close()
        raise OSError(f"cannot listen on {host}:{port} ({error}); choose another --port or --host") from error
    return listening


if __name__ == "__main__":
    run_main(main)
