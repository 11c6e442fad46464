"""`tabwise serve`: run the inference backend."""

from __future__ import annotations

import argparse

from tabwise_server.settings_sources import load_settings

_FLAGS = (
    ("host", str, "address to listen on; 127.0.0.1 keeps it to this machine"),
    ("port", int, "port to listen on; 0 takes a free one"),
    ("checkpoint", str, "a shipped checkpoint's name, or a folder"),
    ("runner", str, "auto, native or torch"),
    ("device", str, "auto, cpu or cuda (the torch runner's)"),
    ("engines", int, "processes that compute; 0: the server's own"),
    ("threads", int, "threads for the model, of each"),
    ("slots", int, "sequences kept in memory at once; by default what kv_bytes hold"),
    ("kv_bytes", int, "memory for keys and values, in bytes"),
    ("max_queue", int, "requests waiting or running before 503, at most"),
    ("least_queue", int, "the same, however late answers come for who asks"),
    ("drain_s", float, "seconds for requests to finish after SIGTERM"),
    ("idle_exit_s", float, "with --daemon: leave after so many idle seconds"),
)


def configure(parser: argparse.ArgumentParser) -> None:
    for name, kind, text in _FLAGS:
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, dest=name, type=kind, help=text)
    parser.add_argument(
        "--reuse-port",
        action="store_true",
        default=None,
        help="let a successor listen on the port before this one leaves",
    )
    parser.add_argument(
        "--daemon",
        action="store_true",
        default=None,
        help="be the user's shared backend: free port, own key, leave when idle",
    )


def run(arguments: argparse.Namespace) -> int:
    names = [*(name for name, _, _ in _FLAGS), "reuse_port", "daemon"]
    flags = {name: getattr(arguments, name) for name in names}
    # what is wrong with the editors' options is theirs to tell
    settings = load_settings({"serve": flags}, only="serve")
    from tabwise_server.serving.run import serve

    return serve(settings.serve)
