"""Where results go: videos, JSON, pictures, functions. Context managers with `write(frame, result)`."""

from yowo_deploy.sinks.annotations import AnnotationsSink
from yowo_deploy.sinks.base import CallbackSink, Sink, Sinks
from yowo_deploy.sinks.frigate import FrigateSink
from yowo_deploy.sinks.jsonl import EventSink, JsonSink, MessageSink
from yowo_deploy.sinks.mqtt import MqttSink
from yowo_deploy.sinks.timeline import TimelineSink
from yowo_deploy.sinks.tubes import TubesSink
from yowo_deploy.sinks.video import VideoSink
from yowo_deploy.sinks.webhook import WebhookSink

__all__ = [
    "AnnotationsSink",
    "CallbackSink",
    "EventSink",
    "FrigateSink",
    "JsonSink",
    "MessageSink",
    "MqttSink",
    "Sink",
    "Sinks",
    "TimelineSink",
    "TubesSink",
    "VideoSink",
    "WebhookSink",
]
