// Counts allocations by replacing operator new; in a file of its own, because GCC takes an inlined pair for a mismatch.
#include "allocations.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

namespace check {

std::atomic<std::size_t> allocations{0};
std::atomic<int> allocations_left{-1};

}  // namespace check

void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  ++check::allocations;
  if (check::allocations_left >= 0 && check::allocations_left-- == 0) return nullptr;
  return std::malloc(size ? size : 1);
}

void* operator new(std::size_t size) {
  if (void* memory = operator new(size, std::nothrow)) return memory;
  throw std::bad_alloc();
}

void* operator new[](std::size_t size) { return operator new(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
