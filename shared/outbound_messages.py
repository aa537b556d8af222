"""Salesforce's outbound messages: which records one tells about, and the answer Salesforce waits for. Pure.

Vendor source: "Outbound Messaging" in the SOAP API Developer Guide: up to 100 notifications a message, sent again for up to a day until
the acknowledgement arrives, in no order. Only ids are taken; a message wakes the worker, which reads the record itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast
from xml.etree.ElementTree import Element, ParseError, XMLPullParser

from shared.errors import ConnectorError

_MESSAGE = "{http://soap.sforce.com/2005/09/outbound}"
DEEPEST = 16  # a message has six levels

ACKNOWLEDGED = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>'
    '<notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>true</Ack></notificationsResponse>'
    "</soapenv:Body></soapenv:Envelope>"
)


class NotAMessage(ConnectorError):
    """The body is not an outbound message; the text may be shown to the sender."""


@dataclass(frozen=True)
class OutboundMessage:
    """The org that sent it, and the ids its records hold: their own, and those of the opportunities they belong to."""

    organization_id: str
    ids: tuple[str, ...]


def looks_like_one(raw: bytes) -> bool:
    return raw.lstrip()[:1] == b"<"


def parse(raw: bytes) -> OutboundMessage:
    """Raises `NotAMessage` for anything else, a document type among it: entities are never expanded."""
    # A NUL would be another encoding than UTF-8, in which a document type looks different.
    if b"<!" in raw or b"\0" in raw:
        raise NotAMessage("an outbound message has no document type, comment or CDATA section")
    organization_id, ids = "", []
    try:
        for element in _elements(raw):
            if element.tag == f"{_MESSAGE}OrganizationId":
                organization_id = (element.text or "").strip()
            elif element.tag == f"{_MESSAGE}Notification":
                records = element.findall(f"{_MESSAGE}sObject")
                # Each record of a message holds its id and, where it belongs to an opportunity, that one's.
                ids += [(field.text or "").strip() for record in records for field in record]
    except (ParseError, ValueError) as error:
        raise NotAMessage("the body is not XML") from error
    if not organization_id or not ids:
        raise NotAMessage("the body is not an outbound message: OrganizationId or Notification is missing")
    return OutboundMessage(organization_id, tuple(dict.fromkeys(ids)))


def _elements(raw: bytes) -> Iterator[Element]:
    """Every element once it is complete; refuses a nesting no message has before it costs anything."""
    parser: XMLPullParser[Any] = XMLPullParser(("start", "end"))
    depth = 0
    for start in range(0, len(raw), 4096):
        parser.feed(raw[start : start + 4096])
        for found in parser.read_events():
            event, element = cast("tuple[str, Element]", found)
            depth += 1 if event == "start" else -1
            if depth > DEEPEST:
                raise NotAMessage("the body is nested deeper than an outbound message")
            if event == "end":
                yield element
    parser.close()
