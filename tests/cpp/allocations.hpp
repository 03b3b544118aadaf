// How often memory was allocated in this program. Include it in one file: it replaces operator new.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

namespace check {

inline std::size_t allocations = 0;

inline void* counted(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size ? size : 1)) return memory;
  throw std::bad_alloc();
}

}  // namespace check

void* operator new(std::size_t size) { return check::counted(size); }
void* operator new[](std::size_t size) { return check::counted(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  ++check::allocations;
  return std::malloc(size ? size : 1);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
