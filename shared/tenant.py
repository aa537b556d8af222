"""What was settled on the real tenant: the last part of a mapping overlay, which the mapping and the settings read.

Every answer keeps its evidence beside what it changes. What the operator states himself wins: an overlay's own tables over an answer's
`mapping`, the environment over its `settings`. The part below `MARK` is rewritten by `cosell probe`; what stands above is never touched.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.errors import Misconfigured

MARK = "# ---- settled on the real tenant; `cosell probe` rewrites everything below this line ----"

# The settings an answer may give: behaviour that a vendor decides, never an address of an API or a credential.
ANSWERABLE = frozenset(
    {
        "CREATE_MARGIN_SECONDS",
        "PARTNER_CENTER_POLL_OVERLAP_SECONDS",
        "SALESFORCE_POLL_OVERLAP_SECONDS",
        "PARTNER_CENTER_CALLS_PER_MINUTE",
        "WEBHOOK_CERTIFICATE_URL_PREFIX",
        "WEBHOOK_SIGNER_NAMES",
    }
)
# The tables of the mapping an answer may add to.
MAPPED = frozenset({"referral", "required"})

_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Answer:
    """What a question was answered. `trace` is the request-id it was seen in, or the org's edition."""

    question: str
    answer: str
    step: str
    at: str = ""
    trace: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    mapping: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Tenant:
    """Everything settled, and the test records that still have to be cleaned up: `referral ID`, `Opportunity ID`, …"""

    answers: Mapping[str, Answer] = field(default_factory=dict)
    leftovers: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, str]:
        """Values for settings that the environment does not give. Where answers differ about a number of seconds, the longer counts."""
        found: dict[str, str] = {}
        for one in self.answers.values():
            for name, value in one.settings.items():
                longer = name.endswith("_SECONDS") and name in found and float(found[name]) > float(value)
                found[name] = found[name] if longer else value
        return found

    @property
    def mapping(self) -> dict[str, Any]:
        """What the shipped mapping gets from the answers, before the overlay's own tables."""
        found: dict[str, Any] = {}
        for one in self.answers.values():
            for table, values in one.mapping.items():
                found[table] = {**found.get(table, {}), **values}
        return found


def parse(tables: Mapping[str, Any], name: str = "the file") -> Tenant:
    """The `[tenant]` part of a parsed overlay. Raises `Misconfigured` for what no answer can be."""
    part = tables.get("tenant", {})
    try:
        answers = {key: Answer(question=key, **values) for key, values in part.get("answers", {}).items()}
        leftovers = tuple(map(str, part.get("leftovers", ())))
        texts = [value for one in answers.values() for value in (one.answer, one.step, one.at, one.trace, *one.settings.values())]
        if not all(isinstance(text, str) for text in texts) or set(part) - {"answers", "leftovers"}:
            raise TypeError
        if any(not isinstance(values, dict) for one in answers.values() for values in one.mapping.values()):
            raise TypeError
        tenant = Tenant(answers, leftovers)
        _ = tenant.settings
    except (TypeError, AttributeError, ValueError) as error:
        raise Misconfigured(
            f"{name} [tenant] is not of the form that `cosell probe` writes; take the part below its line out, and probe again"
        ) from error
    stray = [one for answer in answers.values() for one in (*set(answer.settings) - ANSWERABLE, *set(answer.mapping) - MAPPED)]
    if stray:
        raise Misconfigured(f"{name} [tenant]: no answer gives {', '.join(sorted(stray))}; state it in the environment or above the line")
    return tenant


def read(path: Path) -> Tenant:
    """What a file holds of it; nothing where there is no file. Raises `Misconfigured` when it cannot be read."""
    if not path.is_file():
        return Tenant()
    try:
        return parse(tomllib.loads(path.read_text(encoding="utf-8")), path.name)
    except OSError as error:
        raise Misconfigured(f"the file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"the file {path} is not valid TOML: {error}") from error


def write(path: Path, tenant: Tenant) -> None:
    """Puts it at the end of the file, in one step: a crash leaves the old file or the new one."""
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        own, mark, _ = text.partition(MARK)
        if not mark and "tenant" in tomllib.loads(text):
            raise Misconfigured(f"{path} has a [tenant] table but not the line above it: {MARK}")
        above = f"{own.rstrip()}\n\n" if own.strip() else ""
        draft = path.with_name(f"{path.name}.new")
        draft.write_text(above + rendered(tenant), encoding="utf-8")
        os.replace(draft, path)
    except OSError as error:
        raise Misconfigured(f"the file {path} cannot be written: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"the file {path} is not valid TOML: {error}") from error


def rendered(tenant: Tenant) -> str:
    """The part below the operator's own lines, its mark first."""
    lines = [MARK, "", "[tenant]", f"leftovers = {_value(list(tenant.leftovers))}"]
    for name, one in sorted(tenant.answers.items()):
        lines += ["", f"[tenant.answers.{_key(name)}]"]
        lines += [f"{key} = {_value(text)}" for key in ("answer", "at", "step", "trace") if (text := getattr(one, key))]
        tables = [("settings", one.settings), *((f"mapping.{_key(table)}", values) for table, values in one.mapping.items())]
        for table, values in tables:
            if values:
                lines += [f"[tenant.answers.{_key(name)}.{table}]"]
                lines += [f"{_key(key)} = {_value(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: str | Iterable[str]) -> str:
    if isinstance(value, str):
        # A JSON string is a TOML string, but for the delete character and halves of surrogate pairs.
        return json.dumps(value.encode("utf-8", "replace").decode(), ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"[{', '.join(_value(one) for one in value)}]"
