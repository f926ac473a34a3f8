// Selection among candidates by rank, without a sort.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "../base/simd.h"

namespace infrs {

// Memory that a thread uses again for each row: to get it from the kernel takes longer than most filters.
template <typename Number>
class Scratch {
 public:
  // Room for `count` numbers and a vector more.
  Number* take(size_t count) {
    if (count + kLanes > count_) {
      numbers_.reset(new Number[count + kLanes]);
      count_ = count + kLanes;
    }
    return numbers_.get();
  }

 private:
  std::unique_ptr<Number[]> numbers_;
  size_t count_ = 0;
};

// Ranks and masses of candidates; there is room for a vector after them.
struct Row {
  // Returns whether there are candidates, and all ranks are equal.
  bool is_same() const {
    constexpr size_t kBlock = 1024;  // vectors take the place of a branch for each candidate
    uint32_t difference = 0;
    for (size_t block = 0; block < count && !difference; block += kBlock)
      for (size_t i = block; i < std::min(block + kBlock, count); ++i) difference |= ranks[i] ^ *ranks;
    return count > 0 && !difference;
  }

  uint32_t* ranks;
  float* masses;
  size_t count;
};

// For each set of lanes: their places, and then others.
struct Places {
  Places() {
    for (unsigned set = 0; set < 1 << kLanes; ++set)
      for (int lane = 0, count = 0; lane < static_cast<int>(kLanes); ++lane)
        if (set >> lane & 1) of[set][count++] = lane;
  }

  __m256i first(unsigned set) const { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(of[set])); }

  int32_t of[1 << kLanes][kLanes] = {};
};

inline const Places& places() {  // made at the first use, not on a processor that cannot
  static const Places places;
  return places;
}

// The first candidates of an order: those below a rank, and of those that have it the first `taken`.
struct First {
  // Returns whether the next candidate, by id, is one of them. There is no branch, because it would be mispredicted.
  bool has_next(uint32_t its_rank) {
    const bool is_last = (its_rank == rank) & (taken > 0);
    taken -= is_last;
    return (its_rank < rank) | is_last;
  }

  uint32_t rank;
  size_t taken;
};

struct Goal {
  double mass;    // what the first candidates are to have together
  double before;  // what other candidates in front of them have
  double slack;   // by how much sums may differ by the order of their additions
};

// Buffers of a selection. At most one selection at a time may use them.
struct SelectionMemory {
  Scratch<uint32_t> ranks;
  Scratch<float> masses;
};

// Returns the first candidates by rank that reach the goal, or nothing if the slack could give others.
std::optional<First> reach(SelectionMemory& memory, Row row, Goal goal);

// Returns the rank at which candidates reach the goal; the last rank if they do not.
uint32_t rank_at(SelectionMemory& memory, Row row, Goal goal);

// Returns how many candidates of mass `each` reach the goal, or nothing if the slack could give another number.
std::optional<size_t> taken(double each, const Goal& goal);

}  // namespace infrs
