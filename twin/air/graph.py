"""Who could reach whom: the links of the air as a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twin.air.statistics import LinkReport

USABLE_LINK = 0.5
"""Expected delivery of a 127-byte frame above which a link counts as a path that a mesh must find."""


def usable_links(links: Iterable[LinkReport]) -> dict[str, list[str]]:
    """Neighbours of each node that hear it and are heard well enough, sorted by name."""
    good = {(link.sender, link.receiver) for link in links if link.expected_delivery >= USABLE_LINK}
    neighbours: dict[str, list[str]] = {}
    for sender, receiver in sorted(good):
        if (receiver, sender) in good:
            neighbours.setdefault(sender, []).append(receiver)
    return neighbours


def connected_with(root: str, links: Iterable[LinkReport], takes_part: Callable[[str], bool]) -> set[str]:
    """Nodes that usable links over nodes that take part connect with the root, without the root itself."""
    neighbours = usable_links(links)
    reached, frontier = {root}, [root]
    while frontier:
        here = frontier.pop()
        for near in neighbours.get(here, ()):
            if near not in reached and takes_part(near):
                reached.add(near)
                frontier.append(near)
    return reached - {root}
