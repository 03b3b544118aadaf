"""From raw output to detections, tubes, actions and events; numpy alone."""
