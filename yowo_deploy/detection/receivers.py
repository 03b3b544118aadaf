"""Receivers of events over the network, shared by all sources of a run, and the port of its metrics."""

from __future__ import annotations

import importlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from yowo_deploy.closing import Closing
from yowo_deploy.errors import InputError, MissingExtraError
from yowo_deploy.postprocess.zones import Zones
from yowo_deploy.reporter import Reporter
from yowo_deploy.result import Result
from yowo_deploy.sinks import CallbackSink, FrigateSink, MqttSink, Sink, WebhookSink
from yowo_deploy.sinks.frigate import Frigate
from yowo_deploy.sinks.jsonl import Messages
from yowo_deploy.sinks.messages import EVENTS_FORMATS, EventsFormat, level_of
from yowo_deploy.sinks.mqtt import MqttBroker
from yowo_deploy.sinks.webhook import Webhook
from yowo_deploy.video.sources import Source

MQTT_PASSWORD = "YOWO_MQTT_PASSWORD"  # the name of an environment variable


class Receiver(Protocol):
    """What messages go to."""

    @property
    def counts(self) -> Counter[str]: ...

    @property
    def waiting(self) -> int: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Receivers:
    """Receivers of events over the network; none by default.

    Attributes:
        mqtt: `mqtt://user@host:1883/prefix`, or `mqtts://`; the password may be in the address or in the environment,
            as YOWO_MQTT_PASSWORD. With the [mqtt] extra.
        mqtt_ca: file of certificates to trust in place of the system's.
        events_format: of `<prefix>/events`: "yowo" or "frigate".
        webhook: address to which each message is posted.
        webhook_secret_env: name of the environment variable that holds the secret of the signature.
        webhook_private: allow a webhook that the internet does not reach.
        webhook_snapshot: add a picture to the beginning and end of an event.
        frigate: address of Frigate, in which events are created.
        camera: name of each source in messages and topics, in their order; by default made of the source.
        metrics_port: `port` or `host:port` where Prometheus finds the figures of the run; the host is 127.0.0.1 by
            default. With the [serve] extra.
    """

    mqtt: str | None = field(default=None, repr=False)
    mqtt_ca: str | None = None
    events_format: EventsFormat = "yowo"
    webhook: str | None = field(default=None, repr=False)
    webhook_secret_env: str | None = None
    webhook_private: bool = False
    webhook_snapshot: bool = False
    frigate: str | None = field(default=None, repr=False)
    camera: tuple[str, ...] = ()
    metrics_port: str | None = None

    @property
    def given(self) -> bool:
        """Whether there is a receiver of events."""
        return any((self.mqtt, self.webhook, self.frigate))

    def open(self, reporter: Reporter, sources: Sequence[str] = ()) -> OpenReceivers:
        """Connect to the receivers.

        Args:
            reporter: receives messages of the receivers.
            sources: as `detect` takes them; `camera` names them.

        Raises:
            InputError: `camera`, `events_format` or an address is not valid, a secret is missing, or the port is taken.
            OutputError: the broker refuses the user or the certificate.
            MissingExtraError: a library is not installed.
        """
        if self.camera and len(self.camera) != len(sources):
            raise InputError(
                f"--camera is given {len(self.camera)} times for {len(sources)} sources: give it once for each"
            )
        if self.events_format not in EVENTS_FORMATS:
            raise InputError(
                f"events format {self.events_format!r} is not known, expected {' or '.join(EVENTS_FORMATS)}"
            )
        return OpenReceivers(self, reporter)

    def secret(self) -> str:
        """The secret of the webhook; "" if no variable is named.

        Raises:
            InputError: the environment has no such variable.
        """
        if self.webhook_secret_env is None:
            return ""
        if not (secret := os.environ.get(self.webhook_secret_env, "")):
            raise InputError(f"the environment variable {self.webhook_secret_env} is not set: it must hold the secret")
        return secret


class OpenReceivers(Closing):
    """The open receivers of a run.

    Args:
        reporter: receives a line when a receiver fails or is back, and at the end one for messages that were lost.

    Raises:
        YowoError: see `Receivers.open`.
    """

    def __init__(self, options: Receivers, reporter: Reporter) -> None:
        self._options, self._reporter = options, reporter
        self._receivers: dict[str, Receiver] = {}
        self._names = Counter[str]()
        with ExitStack() as stack:
            self._mqtt = self._frigate = self._webhook = None
            if options.mqtt:
                password = os.environ.get(MQTT_PASSWORD)
                self._mqtt = MqttBroker(options.mqtt, password, options.mqtt_ca, reporter.error)
                self._keep(stack, "MQTT", self._mqtt)
            if options.frigate:
                self._frigate = Frigate(options.frigate, reporter.error)
                self._keep(stack, "Frigate", self._frigate)
            if options.webhook:
                self._webhook = Webhook(options.webhook, options.secret(), options.webhook_private, reporter.error)
                self._keep(stack, "webhook", self._webhook)
            self._metrics = _Metrics(options.metrics_port, self.counts) if options.metrics_port else None
            if self._metrics:
                stack.callback(self._metrics.close)
            self._stack = stack.pop_all()

    def __len__(self) -> int:
        """Sinks of each source."""
        return len(self._receivers) + (self._metrics is not None)

    @property
    def metrics_port(self) -> int | None:
        """The port that Prometheus asks; a free one where 0 was given."""
        return None if self._metrics is None else self._metrics.port

    def counts(self) -> dict[tuple[str, str], int]:
        """Messages by receiver and outcome."""
        return {(name, what): n for name, each in self._receivers.items() for what, n in dict(each.counts).items()}

    def sinks(
        self, source: Source, events: Callable[[], Messages], zones: Callable[[], Zones], number: int = 0
    ) -> Iterator[tuple[str, Sink]]:
        """Name and sink of each receiver for one source.

        Args:
            events: makes what makes the messages, for each sink its own.
            zones: makes what finds the zones of people.
            number: of the source in the order in which they were given, from 0: names do not tell channels apart.
        """
        name = self._name(source, number)
        options = self._options
        if self._mqtt:
            yield "MQTT", MqttSink(self._mqtt, name, events(), zones(), options.events_format)
        if self._frigate:
            yield "Frigate", FrigateSink(self._frigate, name, events())
        if self._webhook:
            yield "webhook", WebhookSink(self._webhook, events(), name, options.webhook_snapshot)
        if self._metrics:
            yield "metrics", self._metrics.sink(name, source)

    def close(self) -> None:
        """Send what waits, within a few seconds each, and report what was lost."""
        self._stack.close()
        for name, each in self._receivers.items():
            lost = {reason: count for reason, count in each.counts.items() if reason != "sent" and count}
            if lost:
                told = ", ".join(f"{count} {reason}" for reason, count in lost.items())
                self._reporter.error(f"{name}: {each.counts['sent']} messages sent, {sum(lost.values())} lost ({told})")
        self._receivers.clear()

    def _keep(self, stack: ExitStack, name: str, receiver: Receiver) -> None:
        self._receivers[name] = receiver
        stack.callback(receiver.close)

    def _name(self, source: Source, number: int) -> str:
        """As it was given, or made of the source; of two that would be the same, the second is numbered."""
        if self._options.camera:
            return self._options.camera[number]
        file = Path(source.name)
        name = level_of(file.stem if file.is_file() else file.name if file.is_dir() else source.name)
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name}_{self._names[name]}"


class _Metrics(Closing):
    """Figures of the run for Prometheus."""

    def __init__(self, port: str, messages: Callable[[], Mapping[tuple[str, str], int]]) -> None:
        if find_spec("prometheus_client") is None:
            raise MissingExtraError("prometheus-client", "serve")
        found = re.fullmatch(r"(?:(.+):)?(\d{1,5})", port, re.ASCII)
        if found is None or not int(found[2]) < 1 << 16:
            raise InputError(f"metrics port {port!r} is not understood, expected 9108 or 0.0.0.0:9108")
        self._sources: dict[str, Source] = {}
        self._tubes: dict[str, int] = {}
        library = importlib.import_module("yowo_deploy.serving.metrics")
        self._metrics = library.Metrics(self._drops, None, lambda: sum(self._tubes.values()), None, messages)
        self._server = library.MetricsServer(self._metrics, (found[1] or "127.0.0.1").strip("[]"), int(found[2]))

    @property
    def port(self) -> int:
        """That is listened on."""
        return int(self._server.port)

    def sink(self, name: str, source: Source) -> Sink:
        """Counts the results of a source."""
        self._sources[name] = source

        def observe(frame: object, result: Result) -> None:
            self._metrics.observe(result, "source")
            self._tubes[name] = len(result.tubes)

        return CallbackSink(observe)

    def close(self) -> None:
        """Free the port."""
        self._server.close()

    def _drops(self) -> dict[tuple[str, str], int]:
        return {(name, why): n for name, each in self._sources.items() for why, n in each.counts.dropped.items()}
