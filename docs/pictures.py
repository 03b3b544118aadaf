"""Make the pictures of the documentation: `python -m docs.pictures VIDEO [FIRST] [LAST]`.

VIDEO is a sample whose licence allows it; README names its source. Writes docs/pictures/detect.webp.
"""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

import cv2
from PIL import Image

from yowo_deploy import Detector
from yowo_deploy.video.reader import open_video

FOLDER = Path(__file__).parent / "pictures"
WIDTH, EVERY, QUALITY = 560, 3, 60


def main() -> None:
    """See the module."""
    path, first, last = sys.argv[1], *(int(each) for each in (*sys.argv[2:4], "0", "150")[:2])
    frames = []
    with Detector.open() as detector, open_video(path) as video:
        fps = video.fps
        for number, frame in enumerate(islice(video, last)):
            result = detector.push(frame)
            if number >= first and number % EVERY == 0:
                drawn = result.plot()
                height = WIDTH * drawn.shape[0] // drawn.shape[1]
                small = cv2.resize(drawn, (WIDTH, height), interpolation=cv2.INTER_AREA)
                frames.append(Image.fromarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB)))
    FOLDER.mkdir(exist_ok=True)
    target = FOLDER / "detect.webp"
    duration = round(1000 * EVERY / fps)
    frames[0].save(target, save_all=True, append_images=frames[1:], duration=duration, loop=0, quality=QUALITY)
    print(f"{target}: {len(frames)} frames, {target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
