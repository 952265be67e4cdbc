"""MQTT topic names and topic filters (MQTT 3.1.1, 4.7)."""

from __future__ import annotations

from protocols.errors import LocalProtocolError


def check_topic(text: str) -> str:
    """`text` if a message can be published to it; LocalProtocolError otherwise (4.7.3)."""
    if not text or "+" in text or "#" in text or "\0" in text or len(text.encode()) > 65_535:
        raise LocalProtocolError(f"{text!r} is not a topic name")
    return text


def check_filter(text: str) -> str:
    """`text` if it is a topic filter; LocalProtocolError otherwise (4.7.1)."""
    if not is_filter(text):
        raise LocalProtocolError(f"{text!r} is not a topic filter")
    return text


def topic_matches(topic_filter: str, topic: str) -> bool:
    """Whether `topic` falls under `topic_filter` (4.7). Topics that begin with $ match no leading wildcard."""
    if topic.startswith("$") and topic_filter[0] in "+#":
        return False
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for position, level in enumerate(wanted):
        if level == "#":
            return True
        if position >= len(levels) or level not in ("+", levels[position]):
            return False
    return len(wanted) == len(levels)


def is_filter(text: str) -> bool:
    """Whether `text` is a topic filter (4.7.1)."""
    if not text or "\0" in text or len(text.encode()) > 65_535:
        return False
    levels = text.split("/")
    return all(
        level == "+" or ("+" not in level and "#" not in level) or (level == "#" and position == len(levels) - 1)
        for position, level in enumerate(levels)
    )
