"""What configures the app from outside: app settings, and host.json."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

JOB_HOST_PREFIX = "AzureFunctionsJobHost__"


class BadSettings(ValueError):
    """Settings that the app cannot start with; the message lists every fault."""


def read_values(path: Path) -> dict[str, str]:
    """The `Values` of a local.settings.json. Raises BadSettings."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadSettings(f"{path} does not exist") from None
    except ValueError as error:
        raise BadSettings(f"{path} is not JSON: {error}") from None
    values = content.get("Values") if isinstance(content, dict) else None
    if not isinstance(values, dict) or (wrong := [name for name, value in values.items() if not isinstance(value, str)]):
        raise BadSettings(f'{path}: "Values" must be an object of strings' + (f"; not a string: {', '.join(wrong)}" if values else ""))
    return values


class Resolver:
    """Replaces `%NAME%` by app settings, remembering what was missing, so that one error can name everything."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = settings
        self._missing: dict[str, dict[str, None]] = {}

    def text(self, text: str, wanted_by: str) -> str:
        return re.sub(r"%([^%]+)%", lambda match: self.setting(match[1], wanted_by), text)

    def setting(self, name: str, wanted_by: str) -> str:
        value = self._settings.get(name)
        if not value:
            self._missing.setdefault(name, {})[wanted_by] = None
        return value or ""

    def missing(self) -> list[str]:
        """One line for every setting that was asked for and is missing or empty."""
        return [f"the app setting {name} is missing or empty: it is {', '.join(wanted)}" for name, wanted in sorted(self._missing.items())]


@dataclass(frozen=True)
class HostOptions:
    """The parts of host.json that devhost follows, with Azure's defaults. Times are in seconds."""

    route_prefix: str = "api"
    batch_size: int = 16
    new_batch_threshold: int = 8
    max_dequeue_count: int = 5
    max_polling_interval: float = 60
    visibility_timeout: int = 0
    base64_messages: bool = True

    @classmethod
    def read(cls, app_dir: Path, settings: Mapping[str, str]) -> "HostOptions":
        """host.json, overlaid by settings such as `AzureFunctionsJobHost__extensions__queues__batchSize`, as Azure does."""
        try:
            content = json.loads((app_dir / "host.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BadSettings(f"there is no host.json in {app_dir}") from None
        except ValueError as error:
            raise BadSettings(f"host.json is not JSON: {error}") from None
        extensions = content.get("extensions", {})
        queues = {key.lower(): value for key, value in extensions.get("queues", {}).items()}
        http = {key.lower(): value for key, value in extensions.get("http", {}).items()}
        for name, value in settings.items():
            section, _, key = name.removeprefix(JOB_HOST_PREFIX + "extensions__").lower().partition("__")
            if name.startswith(JOB_HOST_PREFIX) and section in ("queues", "http"):
                (queues if section == "queues" else http)[key] = value
        batch_size = int(queues.get("batchsize", cls.batch_size))
        return cls(
            route_prefix=str(http.get("routeprefix", cls.route_prefix)).strip("/"),
            batch_size=batch_size,
            new_batch_threshold=int(queues.get("newbatchthreshold", batch_size // 2)),
            max_dequeue_count=int(queues.get("maxdequeuecount", cls.max_dequeue_count)),
            max_polling_interval=_seconds(queues.get("maxpollinginterval", "00:01:00")),
            visibility_timeout=int(_seconds(queues.get("visibilitytimeout", "00:00:00"))),
            base64_messages=str(queues.get("messageencoding", "base64")).lower() == "base64",
        )


def _seconds(text: Any) -> float:
    match = re.fullmatch(r"(\d\d):(\d\d):(\d\d(?:\.\d+)?)", str(text))
    if not match:
        raise BadSettings(f"host.json: {text!r} is not a time of the form hh:mm:ss")
    return timedelta(hours=int(match[1]), minutes=int(match[2]), seconds=float(match[3])).total_seconds()
