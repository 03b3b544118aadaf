// The version of the package, and nothing else, so that CMake can read it without compiling.
#pragma once

#define YOWO_VERSION "0.1.0"
