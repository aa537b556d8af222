"""What the documents say about the code is there: every `file.py:name` they send a reader to, and every file they link to."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
GUIDES = sorted(DOCS.rglob("*.md"))


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(DOCS)))
def test_every_name_and_link_of_a_document_leads_somewhere(guide: Path) -> None:
    text = guide.read_text(encoding="utf-8")
    lost = []
    for module, names in re.findall(r"`(?:shared/)?(\w+)\.py:([A-Za-z_.]+)`", text):
        found = importlib.import_module(f"shared.{module}")
        for name in names.split("."):
            found = getattr(found, name, None)
        if found is None:
            lost.append(f"{module}.py:{names}")
    lost += [link for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text) if not (guide.parent / link).exists()]
    lost += [path for path in re.findall(r"`((?:shared|tests|docs|devhost)/[\w./-]+\.\w+)`", text) if not (DOCS.parent / path).exists()]
    assert lost == []
