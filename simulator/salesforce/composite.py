"""Several requests in one call: composite, composite graph, and collections (salesforce.md 5)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from simulator.salesforce.errors import Fault, Refusal, not_found, refusal
from simulator.salesforce.ids import canonical
from simulator.salesforce.org import Org
from simulator.salesforce.records import Store
from simulator.salesforce.rest import Answer, Call, Resources, error_body, split_url

MOST_SUBREQUESTS, MOST_QUERIES = 25, 5
MOST_NODES, MOST_GRAPHS, MOST_KINDS, DEEPEST, MOST_FAILED_GRAPHS = 500, 75, 15, 15, 14
MOST_ROWS, MOST_CHUNKS = 200, 10

_REFERENCE = re.compile(r"@\{(\w+)((?:\.\w+|\[\d+\])*)\}")
_ROLLED_BACK = "The transaction was rolled back since another operation in the same transaction failed."


class Composite:
    """Everything under /composite."""

    def __init__(self, store: Store, resources: Resources, org: Org) -> None:
        self._store, self._resources, self._org = store, resources, org

    def answer(self, call: Call) -> Answer:
        match call.path[1:]:
            case ():
                call.allow("POST")
                return self._composite(call)
            case ("graph",):
                call.allow("POST")
                return self._graphs(call)
            case ("sobjects",):
                call.allow("POST", "PATCH", "DELETE")
                return self._delete_rows(call) if call.method == "DELETE" else self._write_rows(call)
            case ("sobjects", name):
                call.allow("GET", "POST")
                return self._retrieve(call, name)
            case ("sobjects", name, key):
                call.allow("PATCH")
                return self._upsert_rows(call, name, key)
        raise not_found()

    # composite and graph

    def _composite(self, call: Call) -> Answer:
        body = call.record()
        requests = _subrequests(body)
        queries = sum("/query" in item["url"] or "/composite/sobjects" in item["url"] for item in requests)
        if len(requests) > MOST_SUBREQUESTS or queries > MOST_QUERIES:
            message = f"The limit is {MOST_SUBREQUESTS} subrequests, {MOST_QUERIES} of them queries or collections"
            raise refusal("LIMIT_EXCEEDED", message, None)
        results, _ = self._run(call, requests, atomic=body.get("allOrNone") is True, run=self._subresource)
        return Answer(200, {"compositeResponse": results})

    def _graphs(self, call: Call) -> Answer:
        graphs = call.record().get("graphs")
        if not isinstance(graphs, list) or not graphs or not all(isinstance(graph, dict) and graph.get("graphId") for graph in graphs):
            raise refusal("JSON_PARSER_ERROR", "graphs, each with a graphId, are required", None)
        requests = {str(graph["graphId"]): _subrequests(graph) for graph in graphs}
        if len(requests) < len(graphs):
            raise refusal("INVALID_FIELD", "duplicate graphId", None)
        if len(graphs) > MOST_GRAPHS or sum(map(len, requests.values())) > MOST_NODES:
            raise refusal("LIMIT_EXCEEDED", f"The limit is {MOST_GRAPHS} graphs and {MOST_NODES} nodes in a request", None)
        answers, failed = [], 0
        for name, nodes in requests.items():
            _check_graph(nodes)
            if failed >= MOST_FAILED_GRAPHS:
                halted = Fault("PROCESSING_HALTED", "Too many graphs failed before this one.", [])
                results, fine = [_sub_error(node["referenceId"], Refusal(400, [halted])) for node in nodes], False
            else:
                results, fine = self._run(call, nodes, atomic=True, run=self._record_only)
            failed += not fine
            answers.append({"graphId": name, "graphResponse": {"compositeResponse": results}, "isSuccessful": fine})
        return Answer(200, {"graphs": answers})

    def _run(
        self, call: Call, requests: list[dict[str, Any]], *, atomic: bool, run: Callable[[Call], Answer]
    ) -> tuple[list[dict[str, Any]], bool]:
        """Sub-responses in request order, and whether all succeeded. Atomic: the first failure undoes and halts everything else."""
        results: dict[str, dict[str, Any]] = {}
        culprit = None
        try:
            with self._store.transaction():
                for item in requests:
                    name = item["referenceId"]
                    try:
                        with self._store.transaction():
                            answer = run(self._subcall(call, item, results))
                        results[name] = _sub_answer(name, answer)
                        refused = answer.status >= 300 and answer.status != 304
                    except Refusal as refusal_of_it:
                        results[name], refused = _sub_error(name, refusal_of_it, call.version), True
                    culprit = culprit or (name if refused else None)
                    if refused and atomic:
                        raise _Halted
        except _Halted:
            halted = Refusal(400, [Fault("PROCESSING_HALTED", _ROLLED_BACK, [])])
            others = [item["referenceId"] for item in requests if item["referenceId"] != culprit]
            results |= {name: _sub_error(name, halted) for name in others}
        return [results[item["referenceId"]] for item in requests], culprit is None

    def _subcall(self, call: Call, item: dict[str, Any], results: Mapping[str, Any]) -> Call:
        bodies = {name: result["body"] for name, result in results.items()}
        parts = split_url(_substitute(item["url"], bodies))
        if parts is None:
            raise not_found()
        version, path, parameters = parts
        headers = {name.lower(): str(value) for name, value in item.get("httpHeaders", {}).items()}
        if not self._org.conditions_in_composite:
            headers = {name: value for name, value in headers.items() if not name.startswith("if-")}
        body = _substitute(item.get("body"), bodies)
        return replace(call, method=item["method"].upper(), path=path, version=version, parameters=parameters, headers=headers, body=body)

    def _subresource(self, call: Call) -> Answer:
        if call.path[:2] == ("composite", "sobjects"):
            return self.answer(call)
        return self._resources.answer(call)

    def _record_only(self, call: Call) -> Answer:
        if call.path[:1] != ("sobjects",):
            raise refusal("INVALID_URL", "Only sobjects resources are supported in a composite graph", None)
        return self._resources.answer(call)

    # collections

    def _write_rows(self, call: Call) -> Answer:
        body = call.record()
        rows = _rows_of(body)
        kinds = [_type_of(row) for row in rows]
        chunks = [kind for kind, _ in itertools.groupby(kinds)]
        if len(chunks) > MOST_CHUNKS:
            raise refusal("INVALID_FIELD", f"Number of chunks exceeds {MOST_CHUNKS}: group the records by type", None)

        def write(row: dict[str, Any]) -> dict[str, Any]:
            kind = self._store.kind(_type_of(row) or "", call.actor)
            fields = {name: value for name, value in row.items() if name.lower() not in ("id", "attributes")}
            if call.method == "POST":
                return {"id": self._store.create(kind.name, fields, call.actor)}
            record_id = canonical(next((value for name, value in row.items() if name.lower() == "id"), None))
            if record_id is None:
                raise refusal("MISSING_ARGUMENT", "Id not specified in an update call")
            self._store.update(kind.name, record_id, fields, call.actor)
            return {"id": record_id}

        return self._each(rows, write, atomic=body.get("allOrNone") is True)

    def _upsert_rows(self, call: Call, name: str, key_name: str) -> Answer:
        kind = self._store.kind(name, call.actor)
        key = kind.field(key_name)
        if key is None or not (key.external_id or key.name == "Id"):
            raise not_found(f"Provided external ID field does not exist or is not accessible: {key_name}")
        body = call.record()

        def write(row: dict[str, Any]) -> dict[str, Any]:
            if _type_of(row) != kind.name:
                raise refusal("JSON_PARSER_ERROR", "attributes.type is required on each record", None)
            value = next((value for field, value in row.items() if field.lower() == key.name.lower()), None)
            fields = {field: value for field, value in row.items() if field.lower() not in (key.name.lower(), "attributes")}
            if not isinstance(value, str):
                raise refusal("MISSING_ARGUMENT", f"{key.name} not specified")
            if key.name == "Id":
                found = [canonical(value) or ""]
            else:
                found = [match["Id"] for match in self._store.with_key(kind.name, key.name, value)]
                fields = fields if found else {**fields, key.name: value}
            if len(found) > 1:
                raise refusal("DUPLICATE_EXTERNAL_ID", f"{key.name}: more than one record found for external id field: {found}", [])
            if found:
                self._store.update(kind.name, found[0], fields, call.actor)
                return {"id": found[0], "created": False}
            return {"id": self._store.create(kind.name, fields, call.actor), "created": True}

        return self._each(_rows_of(body), write, atomic=body.get("allOrNone") is True, failed={"created": False})

    def _delete_rows(self, call: Call) -> Answer:
        ids = [text for text in call.parameters.get("ids", "").split(",") if text]

        def write(row: dict[str, Any]) -> dict[str, Any]:
            record_id = canonical(row["id"])
            kind = call.actor.schema.of_id(record_id) if record_id else None
            if record_id is None or kind is None:
                raise refusal("MALFORMED_ID", f"malformed id {row['id']}")
            self._store.delete(kind.name, record_id, call.actor)
            return {"id": record_id}

        _check_count(len(ids))
        return self._each([{"id": text} for text in ids], write, atomic=call.parameters.get("allOrNone", "").lower() == "true")

    def _each(
        self,
        rows: list[dict[str, Any]],
        write: Callable[[dict[str, Any]], dict[str, Any]],
        *,
        atomic: bool,
        failed: Mapping[str, Any] | None = None,
    ) -> Answer:
        """200 and a result for each row, in order. Atomic: one failure undoes the others, which say so."""
        results: list[dict[str, Any]] = []
        seen: set[str] = set()

        def result(row: dict[str, Any]) -> dict[str, Any]:
            record_id = canonical(row.get("id") or row.get("Id"))
            if record_id and record_id in seen:
                raise refusal("DUPLICATE_VALUE", f"duplicate id specified: {record_id}")
            seen.update([record_id] if record_id else [])
            with self._store.transaction():
                written = write(row)
            answer = {"id": written["id"], "success": True, "errors": []}
            return {**answer, "created": written["created"]} if "created" in written else answer

        try:
            with self._store.transaction():
                for row in rows:
                    try:
                        results.append(result(row))
                    except Refusal as refused:
                        results.append({"success": False, "errors": [fault.row() for fault in refused.faults], **(failed or {})})
                if atomic and not all(item["success"] for item in results):
                    raise _Halted
        except _Halted:
            undone = Fault("ALL_OR_NONE_OPERATION_ROLLED_BACK", "Record rolled back because not all records were valid").row()
            results = [item if not item["success"] else {"success": False, "errors": [undone], **(failed or {})} for item in results]
        return Answer(200, results)

    def _retrieve(self, call: Call, name: str) -> Answer:
        kind = self._store.kind(name, call.actor)
        if call.method == "POST":
            body = call.record()
            ids, fields = body.get("ids", ""), body.get("fields", "")
            if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in (ids, fields)):
                raise refusal("JSON_PARSER_ERROR", "ids and fields must be lists of text", None)
        else:
            ids, fields = call.parameters.get("ids", "").split(","), call.parameters.get("fields", "").split(",")
        _check_count(len(ids), most=2000 if call.method == "POST" else MOST_ROWS)
        answers = []
        for text in ids:
            one = replace(call, method="GET", path=("sobjects", kind.name, text), parameters={"fields": ",".join(fields)}, headers={})
            try:
                answers.append(self._resources.answer(one).body)
            except Refusal as refused:
                if refused.status != 404:
                    raise
                answers.append(None)
        return Answer(200, answers)


class _Halted(Exception):
    """Undo everything of this transaction."""


def _subrequests(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sub-requests, each whole and named once."""
    requests = body.get("compositeRequest")
    if not isinstance(requests, list) or not requests:
        raise refusal("JSON_PARSER_ERROR", "compositeRequest is required", None)
    for item in requests:
        if not (isinstance(item, dict) and all(isinstance(item.get(key), str) for key in ("method", "url", "referenceId"))):
            raise refusal("JSON_PARSER_ERROR", "method, url and referenceId are required on each subrequest", None)
        if not isinstance(item.get("httpHeaders", {}), dict):
            raise refusal("JSON_PARSER_ERROR", "httpHeaders must be an object", None)
        if not re.fullmatch(r"[A-Za-z]\w*", item["referenceId"]):
            raise refusal("INVALID_FIELD", f"Invalid reference ID {item['referenceId']}", None)
    if len({item["referenceId"] for item in requests}) < len(requests):
        raise refusal("INVALID_FIELD", "duplicate referenceId", None)
    return requests


def _check_graph(nodes: list[dict[str, Any]]) -> None:
    """Limits of one graph: kinds of node, and depth of the chain of references."""
    depths: dict[str, int] = {}
    kinds = set()
    for node in nodes:
        used = {match[1] for match in _REFERENCE.finditer(node["url"] + str(node.get("body")))}
        depths[node["referenceId"]] = 1 + max((depths.get(name, 0) for name in used), default=0)
        parts = split_url(node["url"])
        kinds.add((node["method"].upper(), parts[0], parts[1][:2]) if parts else None)
    if len(nodes) > MOST_NODES or len(kinds) > MOST_KINDS or max(depths.values()) > DEEPEST:
        raise refusal("LIMIT_EXCEEDED", f"A graph has at most {MOST_NODES} nodes of {MOST_KINDS} kinds, {DEEPEST} deep", None)


def _substitute(value: Any, bodies: Mapping[str, Any]) -> Any:
    """Fill `@{reference.path}` from the answers so far."""
    if isinstance(value, dict):
        return {key: _substitute(part, bodies) for key, part in value.items()}
    if isinstance(value, list):
        return [_substitute(part, bodies) for part in value]
    return _REFERENCE.sub(lambda match: str(_resolve(match, bodies)), value) if isinstance(value, str) else value


def _resolve(match: re.Match[str], bodies: Mapping[str, Any]) -> Any:
    current = bodies.get(match[1])
    for key, index in re.findall(r"\.(\w+)|\[(\d+)\]", match[2]):
        if key and isinstance(current, dict):
            current = current.get(key)
        elif index and isinstance(current, list) and int(index) < len(current):
            current = current[int(index)]
        else:
            current = None
    if current is None or isinstance(current, dict | list):
        message = f"Invalid reference specified. No value for {match[1]}{match[2]} found in {match[1]}"
        raise refusal("PROCESSING_HALTED", message, [])
    return current


def _sub_answer(name: str, answer: Answer) -> dict[str, Any]:
    return {"body": answer.body, "httpHeaders": dict(answer.headers), "httpStatusCode": answer.status, "referenceId": name}


def _sub_error(name: str, refused: Refusal, version: str | None = None) -> dict[str, Any]:
    return {"body": error_body(refused, version), "httpHeaders": {}, "httpStatusCode": refused.status, "referenceId": name}


def _type_of(row: Mapping[str, Any]) -> str | None:
    kind = row.get("attributes")
    name = kind.get("type") if isinstance(kind, dict) else None
    return name if isinstance(name, str) else None


def _rows_of(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = body.get("records")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise refusal("JSON_PARSER_ERROR", "records is required", None)
    _check_count(len(rows))
    return rows


def _check_count(count: int, most: int = MOST_ROWS) -> None:
    if count > most:
        raise refusal("EXCEEDED_ID_LIMIT", f"record limit reached. cannot submit more than {most} records in this transaction", None)
