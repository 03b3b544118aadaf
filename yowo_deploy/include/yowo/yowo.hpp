// All of the runtime but OpenCV's part: open a model file, push frames, get detections, tracks and tubes.
#pragma once

#include "yowo/boxes.hpp"
#include "yowo/clip.hpp"
#include "yowo/decode.hpp"
#include "yowo/detector.hpp"
#include "yowo/errors.hpp"
#include "yowo/online.hpp"
#include "yowo/preprocess.hpp"
#include "yowo/spec.hpp"
#include "yowo/tubes.hpp"
#include "yowo/version.hpp"
