"""JSON-RPC on top of pygls, with every request answered and no user text logged.

pygls drops a request that it cannot structure, or that comes after `shutdown`; it keeps
a future of every notification handled by a generator; and its workspace is slow for
large files. This class answers instead, and leaves documents to the server.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from lsprotocol import types
from pygls.exceptions import (
    JsonRpcException,
    JsonRpcInvalidParams,
    JsonRpcInvalidRequest,
    JsonRpcMethodNotFound,
    JsonRpcParseError,
)
from pygls.protocol import LanguageServerProtocol, lsp_method

logger = logging.getLogger(__name__)

INLINE = types.TEXT_DOCUMENT_INLINE_COMPLETION


class NotInitialized(JsonRpcException):
    CODE = -32002
    MESSAGE = "The first request must be `initialize`"


class Protocol(LanguageServerProtocol):
    """One client's connection."""

    initialized = False
    exit_status: int | None = None  # set by `exit`
    # of methods that LSP does not have: their handlers take the params as they came
    raw_notifications: Mapping[str, Callable[[Any], None]] = MappingProxyType({})
    # shown the params of each inline request, which lose what LSP does not have
    raw_inline: Callable[[Mapping[str, Any]], None] | None = None

    def receive(self, body: bytes) -> None:
        """Handle one message's body; whatever it holds, nothing is raised."""
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            self._refuse(None, JsonRpcParseError("The message is not JSON"))
            return
        try:
            self._dispatch(data)
        except BrokenPipeError:
            self.exit_status = 1
        except JsonRpcException as error:
            self._refuse(_id_of(data), error)
        except Exception as error:  # noqa: BLE001  the server lives on
            logger.warning("cannot read a message: %s", type(error).__name__)
            self._refuse(_id_of(data), JsonRpcInvalidParams())

    def _dispatch(self, data: Any) -> None:
        if not isinstance(data, dict) or data.get("jsonrpc") != self.VERSION:
            raise JsonRpcInvalidRequest('A message is an object with "jsonrpc": "2.0"')
        method, is_request = data.get("method"), "id" in data
        if is_request and not isinstance(data["id"], (str, int)):
            raise JsonRpcInvalidRequest("An id is a string or an integer")
        if method is None:
            self._receive_response(data)
            return
        if not isinstance(method, str):
            raise JsonRpcInvalidRequest("A method is a string")
        if method in self.raw_notifications and not is_request:
            self._receive_raw(method, data.get("params"))
            return
        if self.get_message_type(method) is None or not self._knows(method):
            if is_request:
                raise JsonRpcMethodNotFound.of(method)
            return
        self._check_order(method, is_request)
        if self._shutdown and method != types.EXIT:
            return
        if (
            method == INLINE
            and self.raw_inline
            and isinstance(data.get("params"), dict)
        ):
            self.raw_inline(data["params"])
        try:
            message = self.structure_message(_lenient(data))
        except JsonRpcException as error:
            raise JsonRpcInvalidParams(f"Wrong parameters for {method}") from error
        self.handle_message(message)
        self.initialized |= method == types.INITIALIZE

    def _knows(self, method: str) -> bool:
        features = (self.fm.builtin_features, self.fm.features)
        return method == types.CANCEL_REQUEST or any(method in f for f in features)

    def _check_order(self, method: str, is_request: bool) -> None:
        """Raise for a request out of its turn; see LSP, "initialize", "shutdown"."""
        if not is_request:
            return
        if self._shutdown:
            raise JsonRpcInvalidRequest("The server is shut down")
        if not self.initialized and method != types.INITIALIZE:
            raise NotInitialized()
        if self.initialized and method == types.INITIALIZE:
            raise JsonRpcInvalidRequest("`initialize` comes once")

    def _receive_raw(self, method: str, params: Any) -> None:
        if self.initialized and not self._shutdown and isinstance(params, dict):
            self.raw_notifications[method](params)

    def _receive_response(self, data: dict[str, Any]) -> None:
        """Take a client's answer; one that cannot be read fails, for who waits."""
        if data.get("id") not in self._request_futures:
            return
        try:
            self.handle_message(self.structure_message(data))
        except JsonRpcException as error:
            future = self._request_futures.pop(data["id"])
            if not future.done():
                future.set_exception(error)

    def _refuse(self, id: str | int | None, error: JsonRpcException) -> None:
        """Answer with an error; the id is null where none could be read."""
        answer = {
            "jsonrpc": self.VERSION,
            "id": id,
            "error": {"code": error.code, "message": error.message},
        }
        if (
            isinstance(error, JsonRpcParseError | JsonRpcInvalidRequest)
            or id is not None
        ):
            self._send_data(answer)

    @lsp_method(types.TEXT_DOCUMENT_DID_OPEN)
    def lsp_text_document__did_open(
        self, params: types.DidOpenTextDocumentParams
    ) -> None:
        self._pass_on(types.TEXT_DOCUMENT_DID_OPEN, params)

    @lsp_method(types.TEXT_DOCUMENT_DID_CHANGE)
    def lsp_text_document__did_change(
        self, params: types.DidChangeTextDocumentParams
    ) -> None:
        self._pass_on(types.TEXT_DOCUMENT_DID_CHANGE, params)

    @lsp_method(types.TEXT_DOCUMENT_DID_CLOSE)
    def lsp_text_document__did_close(
        self, params: types.DidCloseTextDocumentParams
    ) -> None:
        self._pass_on(types.TEXT_DOCUMENT_DID_CLOSE, params)

    @lsp_method(types.NOTEBOOK_DOCUMENT_DID_OPEN)
    def lsp_notebook_document__did_open(
        self, params: types.DidOpenNotebookDocumentParams
    ) -> None:
        self._pass_on(types.NOTEBOOK_DOCUMENT_DID_OPEN, params)

    @lsp_method(types.NOTEBOOK_DOCUMENT_DID_CHANGE)
    def lsp_notebook_document__did_change(
        self, params: types.DidChangeNotebookDocumentParams
    ) -> None:
        self._pass_on(types.NOTEBOOK_DOCUMENT_DID_CHANGE, params)

    @lsp_method(types.NOTEBOOK_DOCUMENT_DID_CLOSE)
    def lsp_notebook_document__did_close(
        self, params: types.DidCloseNotebookDocumentParams
    ) -> None:
        self._pass_on(types.NOTEBOOK_DOCUMENT_DID_CLOSE, params)

    @lsp_method(types.EXIT)
    def lsp_exit(self, *args: Any) -> None:  # type: ignore[override]
        self.exit_status = 0 if self._shutdown else 1

    def _pass_on(self, method: str, params: Any) -> None:
        handler = self.fm.features.get(method)
        if handler is not None:
            handler(params)


_TRIGGERS: Mapping[Any, int] = MappingProxyType({0: 1, 1: 1, 2: 2})


def _lenient(data: dict[str, Any]) -> dict[str, Any]:
    """Clients of the 3.17.5 draft count trigger kinds from 0, and may send none."""
    params = data.get("params")
    if data["method"] != INLINE or not isinstance(params, dict):
        return data
    context = params.get("context")
    context = dict(context) if isinstance(context, dict) else {}
    kind = context.get("triggerKind")
    context["triggerKind"] = _TRIGGERS.get(kind if isinstance(kind, int) else None, 2)
    return {**data, "params": {**params, "context": context}}


def _id_of(data: Any) -> str | int | None:
    id = data.get("id") if isinstance(data, dict) else None
    return id if isinstance(id, (str, int)) else None
