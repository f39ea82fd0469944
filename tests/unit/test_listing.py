"""A list answer is a page only if it says what was asked, in the shape that was asked for."""

from __future__ import annotations

import gzip
from typing import Any

import msgspec
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from sync.commerce.client import Answer
from sync.commerce.listing import PRODUCTS, OutOfOrder, read_page
from sync.commerce.search import LIGHT_FIELDS, Criteria, within
from sync.commerce.transport import Body
from sync.errors import AnswerUnreadable, PageFailed
from sync.model import Interval, KnownPage, Page, RawProduct

INTERVAL = Interval(10, 100)
PAGE = Criteria(PRODUCTS, within(INTERVAL), page_size=3)
LIGHT = Criteria(PRODUCTS, within(INTERVAL), page_size=3, fields=LIGHT_FIELDS)
ECHO = (
    b'{"filter_groups":[{"filters":[{"field":"entity_id","value":"10","condition_type":"gt"}]},'
    b'{"filters":[{"field":"entity_id","value":"100","condition_type":"lteq"}]}],"page_size":3}'
)


def read(items: bytes, total: object = 2, criteria: Criteria = PAGE) -> Page:
    body = b'{"items":%b,"search_criteria":%b,"total_count":%b}' % (items, ECHO, msgspec.json.encode(total))
    return read_body(body, criteria)


def read_body(body: bytes, criteria: Criteria = PAGE) -> Page:
    return read_page(criteria, "all", INTERVAL, Answer(Body(body), None, 0.1))


def items(*ids: Any) -> bytes:
    return msgspec.json.encode([{"id": product_id, "sku": "s"} for product_id in ids])


def test_products_keep_their_bytes() -> None:
    """Odd white space, a number no float can hold, escapes: all as sent."""
    first, second = b'{ "price":29.989999999999998, "id":11 }', rb'{"id":12,"name":"\u00e4\/\ud83d\ude00"}'

    page = read(b"[" + first + b"," + second + b"]")

    assert page.products == (RawProduct(11, first), RawProduct(12, second))


def test_a_page_speaks_for_the_ids_up_to_its_last_product() -> None:
    assert read(items(12, 40)).interval == Interval(10, 40)


def test_an_empty_page_speaks_for_the_whole_interval() -> None:
    assert read(b"[]", total=0).interval == INTERVAL


def test_null_is_an_empty_list_only_where_fields_were_named() -> None:
    assert read(b"null", total=0, criteria=LIGHT).products == ()
    with pytest.raises(AnswerUnreadable, match="null"):
        read(b"null", total=0)


@pytest.mark.parametrize(
    ("ids", "named"),
    [
        ((12, 12), "12 after 12"),
        ((10, 12), "10 after 10"),
        ((12, 101), "product 101"),
    ],
)
def test_ids_that_do_not_ascend_inside_the_interval_are_refused(ids: tuple[int, ...], named: str) -> None:
    with pytest.raises(AnswerUnreadable, match=named):
        read(items(*ids))


@pytest.mark.parametrize("ids", [(12, 12, 14), (14, 12, 12), (12, 14, 101), (10, 12, 14)])
def test_one_product_with_the_id_of_another_fails_its_page_so_that_the_others_are_read(
    ids: tuple[int, ...],
) -> None:
    with pytest.raises(PageFailed):
        read(items(*ids), total=3)


@pytest.mark.parametrize("ids", [(14, 12), (12, 99, 14), (14, 12, 20), (20, 14, 12)])
def test_a_page_in_another_order_is_sorted_and_left_to_be_proven(ids: tuple[int, ...]) -> None:
    """By a count, which is another request."""
    with pytest.raises(OutOfOrder) as found:
        read(items(*ids), total=9)

    page = found.value.page
    assert [product.product_id for product in page.products] == sorted(ids)
    assert (page.interval.last, page.total_count, page.answer_hash) == (max(ids), 9, None)


@pytest.mark.parametrize("ids", [(12, 101, 102), (101, 12, 102)])
def test_more_than_one_outside_the_interval_is_another_answer_than_asked_for(ids: tuple[int, ...]) -> None:
    with pytest.raises(AnswerUnreadable) as refused:
        read(items(*ids), total=3)
    assert not isinstance(refused.value, PageFailed)


@pytest.mark.parametrize("total", ["2", 2.5, -1, None, 10**30])
def test_a_count_that_is_none_is_another_shape(total: object) -> None:
    with pytest.raises(AnswerUnreadable, match="unknown shape"):
        read(items(12), total)


@pytest.mark.parametrize("bad_id", ["12", None, True, 12.5, 0, -1, 2**32, 2**63, 10**30])
def test_a_product_without_a_usable_id_fails_its_page_so_that_the_others_are_read(bad_id: object) -> None:
    with pytest.raises(PageFailed, match="usable id"):
        read(items(bad_id), total=1)


@pytest.mark.parametrize(
    "oddity", [rb'"\ud800"', b"NaN", b"-Infinity", b'"a\tb"', rb'"\udc00 and \ud800\u0041"', b'"\xe4"']
)
def test_what_a_strict_parser_refuses_costs_no_other_product(oddity: bytes) -> None:
    odd = b'{"id":12,"sku":"s","name":%b}' % oddity

    page = read(b'[{"id":11,"sku":"r"},%b,{"id":13,"sku":"t"}]' % odd, total=3)

    assert [product.product_id for product in page.products] == [11, 12, 13]
    assert page.products[1].raw == odd


@pytest.mark.parametrize(
    "broken", [b'{"id":12 "sku":"s"}', b'{"id":012}', b'{"id":12}{"id":13}', b'{"id":12},']
)
def test_what_no_parser_reads_fails_the_page(broken: bytes) -> None:
    with pytest.raises(PageFailed, match="broken"):
        read(b"[%b]" % broken)


@pytest.mark.parametrize(
    ("sent", "total"),
    [
        (items(11, 12, 13, 14), 9),
        (items(11, 12), 1),
        (b"[]", 5),
        (items(11), True),
        (items(11), "1"),
        (items(11), None),
    ],
)
def test_a_page_that_contradicts_its_size_or_its_total_is_refused(sent: bytes, total: object) -> None:
    with pytest.raises(AnswerUnreadable):
        read(sent, total)


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{}",
        b'"ok"',
        b'{"items":[]}',
        b'{"items":{},"total_count":0,"search_criteria":{}}',
        b'{"message":"x"}',
    ],
)
def test_json_in_another_shape_is_no_empty_page(body: bytes) -> None:
    with pytest.raises(AnswerUnreadable) as refused:
        read_body(body)
    assert not isinstance(refused.value, PageFailed)


@given(st.integers(0, 200))
def test_a_body_cut_anywhere_is_no_page(cut: int) -> None:
    whole = b'{"items":%b,"search_criteria":%b,"total_count":2}' % (items(11, 12), ECHO)

    with pytest.raises(PageFailed):
        read_body(whole[: min(cut, len(whole) - 1)])


def test_a_warning_in_front_of_the_json_is_no_page() -> None:
    with pytest.raises(PageFailed):
        read_body(b"<br />\n<b>Warning</b>" + ECHO)


@given(st.binary())
def test_no_bytes_make_it_raise_anything_but_its_own_error(body: bytes) -> None:
    with pytest.raises(AnswerUnreadable):
        read_body(body)


# --- an answer that was read before ---------------------------------------------------------------------


def known_page(items: bytes) -> dict[int, KnownPage]:
    return remembered(answer(items))


def remembered(answer: Answer) -> dict[int, KnownPage]:
    page = read_page(PAGE, "all", INTERVAL, answer, {})
    assert page.answer_hash is not None
    memo = KnownPage(page.interval, len(page.products), page.answer_hash, "of the copy", receipt=page.receipt)
    return {10: memo}


def answer(items: bytes, total: int = 2, tail: bytes = b"}") -> Answer:
    body = b'{"items":%b,"search_criteria":%b,"total_count":%d%b' % (items, ECHO, total, tail)
    return Answer(Body(body), None, 0.1)


def test_an_answer_that_was_read_before_says_the_same() -> None:
    known = known_page(items(12, 40))

    page = read_page(PAGE, "all", INTERVAL, answer(items(12, 40), total=9), known)

    assert page.known == known[10]
    assert page.interval == Interval(10, 40)
    assert (len(page.products), page.total_count) == (2, 9)
    assert [product.product_id for product in page.products[-1:]] == [40]
    assert list(page.products) == list(read(items(12, 40)).products)


def test_the_same_answer_to_the_same_request_need_not_be_decoded() -> None:
    came = gzip.compress(answer(items(12, 40)).received.wire)
    known = remembered(Answer(Body(came, "gzip", limit=10_000), None, 0.1))
    too_long_to_decode = Body(came, "gzip", limit=0)

    page = read_page(PAGE, "all", INTERVAL, Answer(too_long_to_decode, None, 0.1), known)

    assert (page.known, page.receipt) == (known[10], known[10].receipt)
    assert (page.interval, len(page.products), page.total_count) == (Interval(10, 40), 2, 2)


def test_the_same_bytes_in_another_coding_are_another_answer() -> None:
    came = Body(answer(items(12, 40)).received.wire, "gzip", limit=10_000)

    with pytest.raises(requests.exceptions.ContentDecodingError):
        read_page(PAGE, "all", INTERVAL, Answer(came, None, 0.1), known_page(items(12, 40)))


def test_the_same_answer_to_another_request_is_held_against_that() -> None:
    other = Criteria(PRODUCTS, PAGE.groups, page_size=4)

    with pytest.raises(AnswerUnreadable, match="page size"):
        read_page(other, "all", INTERVAL, answer(items(12, 40)), known_page(items(12, 40)))


def test_another_answer_for_the_same_ids_is_read_anew() -> None:
    page = read_page(PAGE, "all", INTERVAL, answer(items(12, 41)), known_page(items(12, 40)))

    assert page.known is None
    assert [product.product_id for product in page.products] == [12, 41]


@pytest.mark.parametrize(
    ("end", "error"),
    [
        ({"tail": b""}, PageFailed),
        ({"tail": b'},"more":1'}, PageFailed),
        ({"total": 1}, AnswerUnreadable),
    ],
)
def test_what_stands_behind_known_items_is_not_taken_on_trust(
    end: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        read_page(PAGE, "all", INTERVAL, answer(items(12, 40), **end), known_page(items(12, 40)))


def test_a_known_page_that_reaches_beyond_the_interval_is_not_taken_for_it() -> None:
    shorter = Interval(10, 39)
    criteria = Criteria(PRODUCTS, within(shorter), page_size=3)
    echo = ECHO.replace(b'"100"', b'"39"')
    body = b'{"items":%b,"search_criteria":%b,"total_count":2}' % (items(12, 40), echo)

    with pytest.raises(AnswerUnreadable, match="for the ids"):
        read_page(criteria, "all", shorter, Answer(Body(body), None, 0.1), known_page(items(12, 40)))
