// Threads that exist only while a session packs its weights: ONNX Runtime creates kernels on one thread, without its
// pool.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <thread>
#include <vector>

#include "parallel.h"

namespace infrs {

constexpr size_t kPackGrain = 1 << 18;  // weights that pay for starting a thread: 50 microseconds of work

// Returns a Parallel that runs its work on this thread and on up to `threads - 1` new ones. If the system refuses a
// thread, the others do its part. The work must not throw.
inline Parallel pack_threads(size_t threads) {
  const auto launch = [](void* pool, void (*run)(void* data, size_t part), size_t parts, void* data) {
    std::atomic<size_t> next{0};
    const auto take = [&] {
      for (size_t part; (part = next++) < parts;) run(data, part);
    };
    const size_t helpers = std::min(parts, reinterpret_cast<size_t>(pool)) - 1;
    std::vector<std::thread> started;
    started.reserve(helpers);
    try {
      while (started.size() < helpers) started.emplace_back(take);
    } catch (const std::exception&) {  // no thread or no memory for it
    }
    take();
    for (std::thread& thread : started) thread.join();
  };
  return {launch, reinterpret_cast<void*>(threads), threads};
}

}  // namespace infrs
