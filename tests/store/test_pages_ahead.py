"""Pages of one transaction that outgrow the memory kept for it: written ahead, read again, and written once more."""

from __future__ import annotations

import pytest

from gateway.limits import VFS_DIRTY_PAGES_MAX
from gateway.store.base import PageRead, Traits
from tests.store.test_pages import NS, Watched, first_page, page, pages_of


@pytest.mark.parametrize("in_process", [False, True])
def test_a_page_that_went_ahead_and_is_written_again_is_committed_as_it_was_written_last(
    in_process: bool,
) -> None:
    """In the process it goes with the commit; far away it goes ahead as well."""
    store = Watched(Traits(in_process=in_process))
    pages = pages_of(store)
    last = VFS_DIRTY_PAGES_MAX + 1
    pages.begin()
    for number in range(1, last):
        pages.write(number, page(number))
    pages.write(0, first_page(last))
    assert sum(store.ahead) == VFS_DIRTY_PAGES_MAX, "all but the first, which changes with each commit"
    pages.write(7, page(7, fill=2))
    assert pages.read(7) == page(7, fill=2)
    pages.commit()
    (part,) = store.requests[-1].namespaces
    assert sorted(write.page for write in part.pages) == list(range(last)), "each once"
    version = store.stat(NS).version
    assert store.read(NS, [PageRead(7, version), PageRead(8, version)])[0].data == page(7, fill=2)
    assert pages.read(7) == page(7, fill=2)
