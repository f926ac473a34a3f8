// Splits work into parts for the threads of a pool. The kernels use this and do not depend on ONNX Runtime's pool.
#pragma once

#include <algorithm>
#include <cstddef>

namespace infrs {

// Calls `run(data, part)` for every part in [0, parts) on the threads of the pool, and returns when all are done.
struct Parallel {
  void (*launch)(void* pool, void (*run)(void* data, size_t part), size_t parts, void* data);
  void* pool;

  // Calls `work(first, last)` for ranges that cover [0, items). A range has at least `grain` items.
  template <typename Work>
  void operator()(size_t items, size_t grain, const Work& work) const {
    constexpr size_t kMaxParts = 32;
    const size_t parts = std::min(kMaxParts, std::max<size_t>(1, items / std::max<size_t>(1, grain)));
    if (parts == 1) {
      work(size_t{0}, items);
      return;
    }
    struct Task {
      const Work& work;
      size_t items, parts;
    } task{work, items, parts};
    launch(
        pool,
        [](void* data, size_t part) {
          const Task& given = *static_cast<const Task*>(data);
          given.work(given.items * part / given.parts, given.items * (part + 1) / given.parts);
        },
        parts, &task);
  }
};

}  // namespace infrs
