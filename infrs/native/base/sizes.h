// Sizes from a graph. A product that does not fit 64 bits is an error, not a small number.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace infrs {

// Returns the product of two sizes. Throws std::invalid_argument if one is negative or the product does not fit.
inline int64_t product(int64_t a, int64_t b) {
  int64_t result;
  if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &result))
    throw std::invalid_argument("a size is negative or does not fit 64 bits");
  return result;
}

// Returns the number of elements of a tensor. Throws like `product`.
inline int64_t elements(const std::vector<int64_t>& shape) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;  // the others may be anything
  int64_t count = 1;
  for (int64_t dimension : shape) count = product(count, dimension);
  return count;
}

}  // namespace infrs
