"""`entrepot codec-server`."""

from __future__ import annotations

from typing import Annotated

import typer


def codec_server(
    ip: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8234,
    origin: Annotated[str, typer.Option(help="The Web UI, whose pages alone may ask.")] = "http://127.0.0.1:8233",
    token: Annotated[
        str | None, typer.Option(help="What requests must have as a bearer token, by reference: env:NAME or file:PATH.")
    ] = None,
) -> None:
    """Decrypt payloads for the Web UI and the temporal CLI, with the keys of ENTREPOT_PAYLOAD_KEYS, until Ctrl-C.

    \b
    Examples:
      ENTREPOT_PAYLOAD_KEYS=file:/run/secrets/keys entrepot codec-server --origin https://temporal.example.com
      temporal workflow show -w acme/flights --codec-endpoint http://127.0.0.1:8234
    """
    from entrepot.errors import BadInput
    from entrepot.secrets import REFERENCES, Secret
    from entrepot.worker.cli import output
    from entrepot.worker.payloads import codec
    from entrepot.worker.payloads.server import CodecServer

    if not codec.keys():
        raise BadInput(f"{codec.SETTING} is not set, so there is nothing to decrypt: it says where the keys are")
    if token is not None and not token.startswith(REFERENCES):
        raise BadInput("--token must be a reference such as 'env:NAME' or 'file:PATH', never the token itself")
    server = CodecServer(ip, port, origin, Secret(token, "--token") if token else None)
    with server:
        output.out.print(f"Codec server on {server.url} for {origin}. Ctrl-C stops it.", soft_wrap=True)
        server.serve_forever()
