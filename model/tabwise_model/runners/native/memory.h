// A run of zeroed memory handed out piece by piece and given back all at once.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

class Memory {
 public:
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { free(whole_); }

  // Pieces are counted first, by a call of `place` without memory behind it, and then
  // laid out by a second one: one description serves both.
  template <class Place>
  void lay_out(const Place& place, bool huge_pages) {
    place();
    reserve(used_, huge_pages);
    place();
  }

  template <class T>
  T* take(size_t count) {
    const size_t offset = used_;
    used_ += (count * sizeof(T) + LINE - 1) / LINE * LINE;
    return start_ ? reinterpret_cast<T*>(start_ + offset) : nullptr;
  }

  template <class T>
  T* start() const {
    return reinterpret_cast<T*>(start_);
  }

 private:
  static constexpr size_t LINE = 64;
  static constexpr size_t HUGE_PAGE = size_t(2) << 20;

  // Large runs come zeroed from the system without being touched: a slot costs memory
  // only as it fills, in huge pages a little more than it holds.
  void reserve(size_t bytes, bool huge_pages) {
    const size_t alignment = huge_pages ? HUGE_PAGE : LINE;
    whole_ = calloc(bytes + alignment, 1);
    if (whole_ == nullptr) throw std::bad_alloc();
    const uintptr_t at = reinterpret_cast<uintptr_t>(whole_);
    start_ = reinterpret_cast<char*>((at + alignment - 1) / alignment * alignment);
    used_ = 0;
#if defined(__linux__)
    // Weights are read from end to end each step, and of the cache all that its rows
    // have seen: fewer pages, fewer misses.
    if (huge_pages) madvise(start_, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
  }

  void* whole_ = nullptr;
  char* start_ = nullptr;
  size_t used_ = 0;
};
