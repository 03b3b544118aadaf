// How often memory was allocated in this program.
#pragma once

#include <atomic>
#include <cstddef>

namespace check {

extern std::atomic<std::size_t> allocations;
extern std::atomic<int> allocations_left;  // that succeed before one that fails; -1: all do

}  // namespace check
