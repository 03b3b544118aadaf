// How often memory was allocated in this program.
#pragma once

#include <atomic>
#include <cstddef>

namespace check {

extern std::atomic<std::size_t> allocations;

}  // namespace check
