"""The command that shows a store in the browser."""

from typing import Annotated

from cyclopts import Parameter

from flows.cli_app import app
from flows.cli_options import DEFAULT_STORE, StoreOption
from flows.cli_output import print_lines, say


@app.command
def ui(
    *,
    store: StoreOption = DEFAULT_STORE,
    host: str = "127.0.0.1",
    port: int = 8050,
    token: Annotated[str, Parameter(env_var="FACTSEG_UI_TOKEN")] = "",
) -> int:
    """Show the store in the browser: videos and their stages, runs, reports, segmented videos. Nothing is written.

    Its address goes to standard output. Stop it with Ctrl-C.

    Example: factseg ui --store factseg-store

    Args:
        store: Folder of all artefacts, or a URL such as s3://bucket/factseg.
        host: Where it listens; other machines reach it only by another address than 127.0.0.1.
        port: Where it listens; 0 takes a free one.
        token: What a reader must know, at least 16 characters; needed with any other --host than this machine's own.
            It is asked for at the end of the address (?token=...), then kept in a cookie.
    """
    from flows.ui_server import listen, make_app, serve
    from storage.store import Store

    opened = Store(store, read_only=True)
    application = make_app(opened, host=host, token=token)
    with listen(host, port) as sock:
        shown = f"[{host}]" if ":" in host else host
        print_lines([f"http://{shown}:{sock.getsockname()[1]}/"])
        say(f"ui: shows {opened.root}; stop it with Ctrl-C")
        serve(application, sock)
    return 0
