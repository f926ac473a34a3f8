// Candidates by the distance of their weight's logarithm from a mean.
#pragma once

#include <cstdint>

#include "selection.h"

namespace infrs {

// Buffers for one row at a time.
struct NearestMemory {
  Scratch<uint32_t> distances, kinds, ranks;
  Scratch<float> masses;
};

// Writes to kept [row.count] whether a candidate is among the first that reach the goal, in the order of the distance
// between the logarithm of its mass and `mean`, then by rank. Returns false if rounding could change them.
//
// share: if sums of masses are exact, the part of `total` that is the goal, else 0.
bool keep_nearest(NearestMemory& memory, SelectionMemory& selection, const Row& row, double mean, Goal goal,
                  double total, double share, uint8_t* kept);

}  // namespace infrs
