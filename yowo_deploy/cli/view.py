"""`yowo-deploy view`."""

from __future__ import annotations

import click

from yowo_deploy.cli.console import Count, require, tell


@click.command("view")
@click.argument("run", type=click.Path())
@click.option("--port", default=8000, type=Count(0, 65535), help="Port to listen on; 0 is any free one.")
def command(run: str, port: int) -> None:
    """Show RUN, a folder that `detect` wrote, as a page on this machine: the video, who did what, and when."""
    require("serve", "starlette", "uvicorn", "httptools", "websockets", "prometheus_client")
    from yowo_deploy.serving.recorded import recorded_app
    from yowo_deploy.serving.server import listen, server

    application = recorded_app(run)
    with listen("127.0.0.1", port) as listener:
        tell(f"{run} at http://127.0.0.1:{listener.getsockname()[1]}/")
        server(application).run(sockets=[listener])
