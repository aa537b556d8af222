"""Loads and calls the functions of an app through `azure-functions-runtime`, the library that runs them in Azure.

In Azure the host speaks to that library in protocol buffers. The library takes the message classes as a parameter, so `MESSAGES`
hands it plain objects instead. Everything else, the checks of names, annotations and bindings above all, is Microsoft's own.
One process holds one app: the library keeps its registry in module globals.
"""

import asyncio
import json
import secrets
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import azure_functions_runtime as runtime


class LoadFailed(RuntimeError):
    """The worker library refused the app: in Azure all of its functions would be missing."""


class FunctionFailed(RuntimeError):
    """A function raised, or returned what its binding cannot take; the message is the library's, with the stack trace."""


@dataclass(frozen=True)
class Function:
    """One function as the library indexed it. `bindings` are dictionaries in the form of function.json."""

    name: str
    id: str
    bindings: tuple[dict[str, Any], ...]

    @property
    def trigger(self) -> dict[str, Any]:
        return next(binding for binding in self.bindings if binding["type"].lower().endswith("trigger"))

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        """Output bindings by name, without the one that stands for the HTTP answer."""
        return {b["name"]: b for b in self.bindings if b["direction"].lower() == "out" and b["type"].lower() != "http"}


@dataclass(frozen=True)
class Result:
    """What a function gave back: TypedData as the host would receive it."""

    value: Any = None
    outputs: dict[str, Any] = field(default_factory=dict)


class Message(SimpleNamespace):
    """Stands for any protocol buffer message: holds the fields it was given."""

    def WhichOneof(self, _group: str) -> str | None:  # noqa: N802 - the name that protocol buffers use
        return next((name for name, value in vars(self).items() if value is not None), None)


class TypedData(Message):
    """Exactly one of string, bytes, json, http, int, double."""


class ParameterBinding(Message):
    """The value of one parameter, by name."""

    def WhichOneof(self, _group: str) -> str:  # noqa: N802
        return "data"


class BindingInfo(Message):
    in_, out, inout, undefined = 0, 1, 2, 0


class StatusResult(Message):
    Failure, Success = 0, 1


class RpcHttpCookie(Message):
    SameSite = SimpleNamespace(**{"None": None, "Lax": "Lax", "Strict": "Strict", "ExplicitNone": "None"})


class Messages:
    """The stand-in for the generated protobuf module: any class that is not special is a bag of fields."""

    TypedData, ParameterBinding, BindingInfo, StatusResult, RpcHttpCookie = (
        TypedData,
        ParameterBinding,
        BindingInfo,
        StatusResult,
        RpcHttpCookie,
    )

    def __getattr__(self, _name: str) -> type[Message]:
        return Message


MESSAGES = Messages()
_loaded: tuple[Path, tuple[Function, ...]] | None = None


async def load(app_dir: Path) -> tuple[Function, ...]:
    """Import and index `function_app.py` of this folder; the second time, what was loaded before.

    Raises LoadFailed with the reason that Azure would only write to a log.
    """
    global _loaded
    app_dir = app_dir.resolve()
    if _loaded:
        if _loaded[0] != app_dir:
            raise LoadFailed(f"{_loaded[0]} is loaded already, and a process can hold only one app")
        return _loaded[1]
    if not (app_dir / "function_app.py").exists():
        raise LoadFailed(f"there is no function_app.py in {app_dir}")
    if str(app_dir) not in sys.path:
        sys.path.insert(0, str(app_dir))
    runtime.start_threadpool_executor()
    answer = await runtime.worker_init_request(_request(worker_init_request=Message(capabilities={}, function_app_directory=str(app_dir))))
    _raise_if_failed(answer.result, LoadFailed)
    found = (await runtime.functions_metadata_request(_request())).function_metadata_results or []
    functions = tuple(Function(one.name, one.function_id, tuple(map(json.loads, one.raw_bindings))) for one in found)
    if not functions:
        raise LoadFailed(f"{app_dir} has no functions")
    if with_retry := [one.name for one in found if one.retry_options]:
        raise LoadFailed(f"devhost does not know retry policies, which these functions ask for: {', '.join(with_retry)}")
    _loaded = app_dir, functions
    return functions


async def invoke(
    function: Function, value: TypedData, metadata: Mapping[str, TypedData] | None = None, trace_parent: str | None = None
) -> Result:
    """Call a function with its trigger's value. Synchronous functions run in the library's thread pool. Raises FunctionFailed."""
    trace = Message(trace_parent=trace_parent or f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01", trace_state="", attributes={})
    call = Message(
        invocation_id=str(uuid.uuid4()),
        function_id=function.id,
        input_data=[ParameterBinding(name=function.trigger["name"], data=value)],
        trigger_metadata=dict(metadata or {}),
        trace_context=trace,
        retry_context=Message(retry_count=0, max_retry_count=0, exception=None),
    )
    answer = await runtime.invocation_request(_request(invocation_request=call))
    _raise_if_failed(answer.result, FunctionFailed)
    return Result(answer.return_value, {output.name: output.data for output in answer.output_data})


def describe_functions(app_dir: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Index an app without running it: {function: {parameter: binding}}. Raises LoadFailed. Not for use inside an event loop."""
    functions = asyncio.run(load(app_dir))
    return {function.name: {binding["name"]: binding for binding in function.bindings} for function in functions}


def _request(**parts: Message) -> Message:
    return Message(request=Message(**parts), properties={"host": "127.0.0.1", "protos": MESSAGES})


def _raise_if_failed(result: Message, error: type[Exception]) -> None:
    if result.status != StatusResult.Success:
        raise error(f"{result.exception.message}\n{result.exception.stack_trace}")
