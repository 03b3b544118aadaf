"""Announcement of a camera to Home Assistant, by its MQTT device discovery."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

from yowo_deploy.json_text import to_json
from yowo_deploy.sinks.messages import level_of
from yowo_deploy.version import __version__

DISCOVERY = "homeassistant"
_ON = "{{ 'ON' if value | int > 0 else 'OFF' }}"


def discovery(
    prefix: str, source: str, labels: Iterable[str], begun: Iterable[str], zones: Iterable[str]
) -> tuple[str, str]:
    """Topic and payload of the retained message that makes a device of a camera.

    Each event or alert has a binary sensor that is on while one goes on, each label a sensor of the number of people,
    which is disabled at first; each zone has a sensor of the people in it.

    Args:
        begun: labels of events, or names of rules.
    """
    device = f"yowo_{re.sub(r'[^a-zA-Z0-9_-]', '_', level_of(source))[:40]}_{_digest(f'{prefix}/{source}')}"
    components: dict[str, Any] = {}

    def add(platform: str, name: str, topic: str, **others: Any) -> None:
        unique = f"{device}_{_digest(topic)}"
        components[unique] = {"p": platform, "uniq_id": unique, "name": name, "stat_t": topic, **others}

    for name in begun:
        add("binary_sensor", name, f"{prefix}/{source}/{level_of(name)}/active", val_tpl=_ON)
    for label in labels:
        add("sensor", f"{label}: people", f"{prefix}/{source}/{level_of(label)}", stat_cla="measurement", en=False)
    add("sensor", "People", f"{prefix}/{source}/all", stat_cla="measurement")
    for zone in zones:
        add("sensor", f"People in {zone}", f"{prefix}/{level_of(zone)}/all", stat_cla="measurement")
    origin = {"name": "yowo-deploy", "sw": __version__}
    known = {"ids": device, "name": source, "mf": "yowo-deploy", "sw": __version__}
    payload = {"dev": known, "o": origin, "avty_t": f"{prefix}/available", "qos": 1, "cmps": components}
    return f"{DISCOVERY}/device/{device}/config", to_json(payload)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
