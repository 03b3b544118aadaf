/* The runtime for C, and for all that can call C: open, push, results, close, last error.
 *
 * Every function but the last three returns YOWO_OK or another code; yowo_last_error then says what was found, what was
 * expected and what to do. A detector is for one thread at a time. Nothing is thrown. */
#ifndef YOWO_H
#define YOWO_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(YOWO_BUILDS_LIBRARY)
#define YOWO_API __declspec(dllexport)
#elif defined(_WIN32)
#define YOWO_API __declspec(dllimport)
#elif defined(__GNUC__)
#define YOWO_API __attribute__((visibility("default")))
#else
#define YOWO_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum {
  YOWO_OK = 0,
  YOWO_INPUT_ERROR = 1,  /* a file, an option, a frame or an argument is not what it should be */
  YOWO_MODEL_ERROR = 2,  /* a model file, or the spec in it, cannot be used */
  YOWO_ENGINE_ERROR = 3, /* an engine is not compiled in, or failed */
  YOWO_BUG = 4           /* anything else, as memory that ran out */
};

typedef struct yowo_detector yowo_detector;

/* Fill it with yowo_default_options first; NULL and 0 are the defaults. */
typedef struct yowo_options {
  size_t size;           /* of this struct, as the caller knows it */
  const char* backend;   /* "openvino", "onnxruntime" or "tensorrt" */
  const char* device;    /* "cpu", "cuda", "cuda:1" */
  const char* precision; /* the file's own, or what the engine can do of it */
  int32_t threads;       /* of the CPU */
  int32_t trust;         /* load a plan without its recorded hash */
  double confidence;     /* detections must exceed this; -1 is the model's own */
  double iou;            /* suppression threshold; -1 is the model's own */
  double keep;           /* objectness above which people who were shown stay so; -1 is the model's own */
  int32_t tube_scores;   /* average class scores along tubes, 1 or 0; -1 is the model's own */
  int32_t cuts;          /* end all tubes at hard cuts, 1 or 0; -1 is the model's own */
  int32_t every;         /* run the model on every N-th frame, boxes stay in between; 0 and 1: on all */
  int32_t clips;         /* whole clips also where a file carries a streaming form, which gives the same for less */
} yowo_options;

typedef struct yowo_detection {
  float x1, y1, x2, y2; /* corners in pixels of the frame */
  float confidence;
  int32_t class_id;
  int64_t tracker_id; /* the person, the same from frame to frame */
} yowo_detection;

YOWO_API int yowo_default_options(yowo_options* options);

/* Load a model file; "default" is the model of the package that the library was built from. *detector is NULL where
 * that fails. options may be NULL. */
YOWO_API int yowo_open(const char* path, const yowo_options* options, yowo_detector** detector);

/* The next frame of the video: rows of width pixels of 3 bytes, blue first, stride bytes apart (0: without gaps). */
YOWO_API int yowo_push(yowo_detector* detector, const uint8_t* bgr, int32_t width, int32_t height, int64_t stride);

/* What the last frame held, best first; the detector's own, until its next call. */
YOWO_API int yowo_results(const yowo_detector* detector, const yowo_detection** found, size_t* count);

/* The name of a class, UTF-8, the detector's own. */
YOWO_API int yowo_label(const yowo_detector* detector, int32_t class_id, const char** label);

/* Forget the frames and the people so far: the next frame starts a new video. */
YOWO_API int yowo_reset(yowo_detector* detector);

/* NULL is nothing to close. */
YOWO_API void yowo_close(yowo_detector* detector);

/* Of this thread's last call that failed; "" before there is one. */
YOWO_API const char* yowo_last_error(void);

YOWO_API const char* yowo_version(void);

#ifdef __cplusplus
}
#endif

#endif /* YOWO_H */
