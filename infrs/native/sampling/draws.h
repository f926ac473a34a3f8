// Draws of a token from a filtered row.
#pragma once

#include <cstddef>
#include <cstdint>

namespace infrs {

// The filters of a row, in the order in which they apply.
struct Filters {
  uint64_t top_k;  // 0: all
  double typical_p, top_p;
  float min_p;
};

constexpr int64_t kUndecided = -1;

// Draws an id for logits [count] and their weights, exp((logit - largest) / temperature) in float32: the largest is 1,
// and equal logits have equal ones. Returns kUndecided if the order of additions, or a difference of 2e-10 between
// logarithms, could change the id.
int64_t draw(const float* logits, const float* weights, size_t count, const Filters& filters, double temperature,
             double uniform);

}  // namespace infrs
