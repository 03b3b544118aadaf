// The version of the package, which CMake reads as well.
#pragma once

#define YOWO_VERSION "0.1.0"
