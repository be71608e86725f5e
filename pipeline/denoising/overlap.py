"""Work in a thread while its results are written and the next items are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def overlapped(
    function: Callable[[_Item], _Result], items: Iterable[_Item], is_short: Callable[[_Item], bool]
) -> Iterator[tuple[_Item, _Result]]:
    """Every item and `function(item)`, in order.

    While the function runs on one item, the caller deals with the former one and the next is taken from `items`.

    Args:
        function: runs in a thread; what it raises is raised here, in its turn.
        items: may be an iterator that reads.
        is_short: whether the function is soon done with an item. Where it is not, it runs in the caller's thread, which
            Ctrl-C can stop, and nothing else is read meanwhile, which would take memory.
    """
    with ThreadPoolExecutor(1) as thread:
        former = None
        for item in items:
            following = thread.submit(function, item) if is_short(item) else None
            if former:
                yield former[0], former[1].result()
            former = (item, following) if following else None
            if not following:
                yield item, function(item)
        if former:
            yield former[0], former[1].result()
