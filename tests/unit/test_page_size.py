"""The page size finds what the tenant can send, and stays there."""

from __future__ import annotations

from sync.commerce.page_size import CALM_PAGES, HEAVY_PAGE, LONGEST_CALM, LearnedSize, PageSize


def read(size: PageSize, pages: int, page_bytes: int = 1000) -> int:
    for _ in range(pages):
        size.went_well(size.current, page_bytes)
    return size.current


def test_a_page_that_is_too_large_halves_it() -> None:
    size = PageSize(300)

    size.failed(300)

    assert size.current == 150


def test_threads_that_fail_with_the_same_size_halve_it_once() -> None:
    size = PageSize(300)

    for _ in range(4):
        size.failed(300)

    assert size.current == 150


def test_it_never_falls_below_one_product() -> None:
    size = PageSize(2)

    for _ in range(5):
        size.failed(size.current)

    assert size.current == 1


def test_it_grows_back_after_calm_pages_but_not_beyond_its_ceiling() -> None:
    size = PageSize(300)
    size.failed(300)

    assert read(size, CALM_PAGES - 1) == 150
    assert read(size, 1) == 300
    assert read(size, 100) == 300


def test_a_limit_it_runs_into_again_is_tried_ever_more_rarely() -> None:
    size = PageSize(300)
    failures = 0

    for _ in range(1000):
        size.went_well(size.current, 1000)
        if size.current > 150:
            size.failed(size.current)
            failures += 1

    assert failures <= 12


def test_the_server_s_own_limit_is_never_exceeded_again() -> None:
    size = PageSize(300)

    size.cap(100)

    assert read(size, 500) == 100


def test_heavy_pages_shrink_it_to_what_memory_can_hold() -> None:
    size = PageSize(300)

    size.went_well(300, 3 * HEAVY_PAGE)

    assert size.current == 100
    assert read(size, 50, HEAVY_PAGE) == 100


def test_the_answer_to_an_earlier_smaller_page_does_not_make_it_grow() -> None:
    size = PageSize(300)

    for _ in range(50):
        size.went_well(10, 1000)
    size.failed(300)
    for _ in range(50):
        size.went_well(10, 1000)

    assert size.current == 150


def test_what_was_learned_outlives_the_process_and_never_exceeds_the_setting() -> None:
    """The server named 100 as its largest page, and a page of 80 was too heavy."""
    size = PageSize(300)
    size.cap(100)
    size.failed(80)
    kept = size.learned
    assert kept == LearnedSize(size.current, 100)

    again = PageSize(300, kept)
    for _ in range(2 * LONGEST_CALM):
        again.went_well(again.current, page_bytes=0)

    assert again.current == 100
    assert PageSize(20, kept).current == 20
