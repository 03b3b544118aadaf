"""A ROS 2 node: `sensor_msgs/Image` in, `vision_msgs/Detection2DArray` out; `id` of a detection is its person.

Written from the documentation of rclpy, cv_bridge and vision_msgs 4 (Humble and later); never run in ROS. Its logic
runs in the tests with stand-ins for these packages.

    python yowo_node.py --ros-args -r image:=/camera/image_raw -p model:=yowo.onnx -p confidence:=0.3
"""

from __future__ import annotations

from typing import Any

import rclpy
from cv_bridge import CvBridge
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from yowo_deploy import Detector


class YowoNode(Node):  # type: ignore[misc]
    """One camera. A frame that comes while the one before is looked at replaces those that wait (depth 1)."""

    def __init__(self) -> None:
        super().__init__("yowo")
        model = self.declare_parameter("model", "default").value
        confidence = self.declare_parameter("confidence", 0.15).value
        self._detector = Detector.open(model, confidence=confidence)
        self._bridge = CvBridge()
        self._publisher = self.create_publisher(Detection2DArray, "detections", 10)
        profile = qos_profile_sensor_data
        profile.depth = 1
        self.create_subscription(Image, "image", self.on_image, profile)

    def on_image(self, message: Any) -> None:
        """Publish what is found, with the header of the image."""
        result = self._detector.push(self._bridge.imgmsg_to_cv2(message, desired_encoding="bgr8"))
        found, answer = result.detections, Detection2DArray(header=message.header)
        for row, (x1, y1, x2, y2) in enumerate(found.xyxy.tolist()):
            detection = Detection2D(header=message.header)
            detection.bbox.center.position.x, detection.bbox.center.position.y = (x1 + x2) / 2, (y1 + y2) / 2
            detection.bbox.size_x, detection.bbox.size_y = x2 - x1, y2 - y1
            detection.id = "" if found.tracker_id is None else str(found.tracker_id[row])
            hypothesis = ObjectHypothesisWithPose()
            hypothesis.hypothesis.class_id = result.names[found.class_id[row]]
            hypothesis.hypothesis.score = float(found.confidence[row])
            detection.results.append(hypothesis)
            answer.detections.append(detection)
        self._publisher.publish(answer)

    def destroy_node(self) -> None:
        """Close the engine as well."""
        self._detector.close()
        super().destroy_node()


def main() -> None:
    rclpy.init()
    node = YowoNode()
    try:
        rclpy.spin(node)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
