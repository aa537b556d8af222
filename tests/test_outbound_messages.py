"""Salesforce's own push: an outbound message marks the deals it tells about, and nothing that is not one marks anything."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from shared import receiving
from shared.errors import TryLater
from shared.notifications import MAXIMUM_BODY
from shared.tables import MemoryTables
from tests.deals import DealWorld

ORG, SECRET = "00DWs00000A1b2cMAB", "a shared secret"
DEAL, OTHER, ROW = "006Ws0000000Q1UIAU", "006Ws0000000Q1VIAU", "a01Ws0000000Q1UIAU"


def notification(kind: str, **fields: str) -> str:
    inner = "".join(f"<sf:{name}>{value}</sf:{name}>" for name, value in fields.items())
    return f'<Notification><Id>04lWs000000TvkKIAS</Id><sObject xsi:type="sf:{kind}" xmlns:sf="urn:sobject.enterprise.soap.sforce.com">{inner}</sObject></Notification>'


def message(*notifications: str, org: str = ORG) -> bytes:
    """As printed in the SOAP API Developer Guide, with the session id left out as since February 2026."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>'
        f'<notifications xmlns="http://soap.sforce.com/2005/09/outbound"><OrganizationId>{org}</OrganizationId>'
        '<ActionId>04kWs0000004CAEIA2</ActionId><SessionId xsi:nil="true"/>'
        "<EnterpriseUrl>https://contoso.my.salesforce.com/services/Soap/c/66.0/00DWs00000A1b2c</EnterpriseUrl>"
        "<PartnerUrl>https://contoso.my.salesforce.com/services/Soap/u/66.0/00DWs00000A1b2c</PartnerUrl>"
        f"{''.join(notifications)}</notifications></soapenv:Body></soapenv:Envelope>"
    ).encode()


def world(**settings: str) -> DealWorld:
    return DealWorld(settings={"SALESFORCE_PUSH_SECRET": SECRET, "SALESFORCE_ORG_ID": ORG} | settings)


def push(w: DealWorld, raw: bytes, secret: str = SECRET) -> tuple[int, Any]:
    return receiving.salesforce_push(lambda: w.world, {}, raw, secret)


def test_each_deal_is_marked_once_and_salesforce_hears_that_it_may_forget_the_message() -> None:
    w = world()
    solution = notification("Microsoft_Solutions__c", Id=ROW, Opportunity__c=OTHER)
    status, answer = push(w, message(notification("Opportunity", Id=DEAL), notification("Opportunity", Id=DEAL[:15]), solution))
    assert status == 200
    acknowledged = ElementTree.fromstring(answer)  # noqa: S314 - our own answer
    assert [one.text for one in acknowledged.iter("{http://soap.sforce.com/2005/09/outbound}Ack")] == ["true"]
    assert set(w.owed()) == {f"sf-{DEAL}", f"sf-{OTHER}"}
    assert len(w.wakes.queued) == 2


def test_a_hundred_notifications_are_one_message() -> None:
    w = world()
    ids = [f"006Ws00000{number:05d}" for number in range(100)]
    assert push(w, message(*(notification("Opportunity", Id=one) for one in ids)))[0] == 200
    assert len(w.owed()) == 100


REFUSED: list[tuple[str, bytes, str, int]] = [
    ("no secret", message(notification("Opportunity", Id=DEAL)), "", 401),
    ("another secret", message(notification("Opportunity", Id=DEAL)), "guess", 401),
    ("another org", message(notification("Opportunity", Id=DEAL), org="00DXx00000Z9y8xEAB"), SECRET, 401),
    ("an org that only begins alike", message(notification("Opportunity", Id=DEAL), org="00DWs00000A1b2"), SECRET, 401),
    ("ids without an org", b'{"ids": ["006Ws0000000Q1UIAU"]}', SECRET, 401),
    ("no notification", message(), SECRET, 400),
    ("no deal in it", message(notification("Microsoft_Solutions__c", Id=ROW)), SECRET, 400),
    ("another document", b"<html><body>hello</body></html>", SECRET, 400),
    ("half of it", message(notification("Opportunity", Id=DEAL))[:-40], SECRET, 400),
    ("entities", b'<!DOCTYPE a [<!ENTITY b "006Ws0000000Q1UIAU">]>' + message(notification("Opportunity", Id="&b;")), SECRET, 400),
    ("an external entity", b'<!DOCTYPE a SYSTEM "http://contoso.example/a.dtd"><a/>', SECRET, 400),
    ("an endless nesting", b"<a>" * 80_000, SECRET, 400),
    ("UTF-16, which hides a document type", '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a><a/>'.encode("utf-16"), SECRET, 400),
    ("over 256 KiB", b"<a>" + b" " * MAXIMUM_BODY, SECRET, 400),
    ("a query in place of an id", message(notification("Opportunity", Id="006' OR Name != '")), SECRET, 400),
]


@pytest.mark.parametrize(("raw", "secret", "status"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_not_a_message_of_our_org_is_refused_and_marks_nothing(raw: bytes, secret: str, status: int) -> None:
    w = world()
    answered, answer = push(w, raw, secret)
    assert (answered, set(answer)) == (status, {"error"} | ({"neither"} if "neither" in answer else set()))
    assert w.owed() == {}


def test_ids_as_json_name_their_org_where_one_is_expected() -> None:
    w = world()
    raw = f'{{"ids": ["{DEAL}"], "organization_id": "{ORG[:15]}"}}'.encode()
    assert receiving.salesforce_push(lambda: w.world, {"x-cosell-secret": SECRET}, raw) == (200, {"accepted": 1})


def test_a_message_that_cannot_be_stored_is_not_acknowledged_so_that_it_comes_again() -> None:
    class Unreachable(MemoryTables):
        def merge(self, *_: Any, **__: Any) -> str:
            raise TryLater("Table Storage cannot be reached")

    w = DealWorld(tables=Unreachable(), settings={"SALESFORCE_PUSH_SECRET": SECRET})
    assert push(w, message(notification("Opportunity", Id=DEAL)))[0] == 503
