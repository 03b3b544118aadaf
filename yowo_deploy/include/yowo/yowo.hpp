// All of the runtime but OpenCV's part: open a model file, push frames, get detections, tracks and tubes.
#pragma once

#include "yowo/boxes.hpp"
#include "yowo/preprocess/clip_buffer.hpp"
#include "yowo/preprocess/cuts.hpp"
#include "yowo/postprocess/decode.hpp"
#include "yowo/detector.hpp"
#include "yowo/errors.hpp"
#include "yowo/postprocess/linker.hpp"
#include "yowo/postprocess/zones.hpp"
#include "yowo/preprocess/frames.hpp"
#include "yowo/spec.hpp"
#include "yowo/stream_pool.hpp"
#include "yowo/version.hpp"
