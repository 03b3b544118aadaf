// How often memory was allocated in this program.
#pragma once

#include <cstddef>

namespace check {

extern std::size_t allocations;

}  // namespace check
