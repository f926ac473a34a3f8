// Splits work into parts for the threads of a pool. The kernels use this and do not depend on ONNX Runtime's pool.
#pragma once

#include <algorithm>
#include <cstddef>

namespace infrs {

// Returns into how many parts of at least `grain` items to split `items` that take equally long: the same number for
// each thread, or one for each thread that can have one. With more than one, a thread that is interrupted leaves its
// parts to the others. A part then has many items, so that a difference of one item is small.
inline size_t even_parts(size_t items, size_t grain, size_t threads) {
  constexpr size_t kMaxPerThread = 4, kManyItems = 16;
  const size_t most = std::max<size_t>(1, items / std::max<size_t>(1, grain));
  if (most <= threads) return most;
  const size_t items_per_part = std::max(grain, kManyItems);
  return threads * std::clamp<size_t>(items / items_per_part / threads, 1, kMaxPerThread);
}

// The same for items that do not take equally long: more and smaller parts, so that no part is long.
inline size_t uneven_parts(size_t items, size_t grain, size_t threads) {
  constexpr size_t kMaxPerThread = 32;
  return std::clamp<size_t>(items / std::max<size_t>(1, grain), 1, kMaxPerThread * threads);
}

// Calls `run(data, part)` for every part in [0, parts) on the threads of the pool, and returns when all are done. A
// thread that has nothing to do takes the next part.
struct Parallel {
  void (*launch)(void* pool, void (*run)(void* data, size_t part), size_t parts, void* data);
  void* pool;
  size_t threads;  // of the pool, with the one that calls

  // Calls `work(first, last)` for ranges that cover [0, items), which take equally long. A range has at least `grain`
  // items.
  template <typename Work>
  void operator()(size_t items, size_t grain, const Work& work) const {
    split(items, threads == 1 ? 1 : even_parts(items, grain, threads), work);
  }

  // The same for items that do not take equally long. Those that take longest should come first.
  template <typename Work>
  void uneven(size_t items, size_t grain, const Work& work) const {
    split(items, threads == 1 ? 1 : uneven_parts(items, grain, threads), work);
  }

 private:
  template <typename Work>
  void split(size_t items, size_t parts, const Work& work) const {
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
