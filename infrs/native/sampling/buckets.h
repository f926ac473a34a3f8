// The candidates of a row in buckets by their logits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "selection.h"

namespace infrs {

// Some candidates. Those of equal ranks are in the order of their ids. There is room for a vector after them.
struct Members {
  Row row() const { return {ranks, masses, count}; }

  // Keeps those for which passes(place) holds.
  template <typename Passes>
  void keep(Passes passes) {
    size_t kept = 0;
    for (size_t i = 0; i < count; ++i) {
      const bool passed = passes(i);
      ranks[kept] = ranks[i], masses[kept] = masses[i], ids[kept] = ids[i];
      kept += passed;
    }
    count = kept;
  }

  uint32_t *ranks, *ids;
  float* masses;
  size_t count;
};

// Memory that a thread uses for one row at a time.
struct BucketMemory {
  struct Arrays {
    Scratch<uint32_t> ranks, ids;
    Scratch<float> masses;
  };

  static constexpr size_t kOpened = 8;

  Scratch<uint16_t> places;
  Scratch<double> tables;
  Arrays opened[kOpened];
};

// A row's candidates, which are the ids with weights above 0, by rank: from the largest logit to the least, ties by id.
// The first pass over the row only adds up the candidates of each bucket. A filter then looks at those of one bucket or
// a few, which it opens: it can remove them one by one, and other buckets as a whole.
class Buckets {
 public:
  static constexpr size_t kCount = 1024;

  enum class State : uint8_t { kClosed, kEmpty, kOpen };

  struct Bucket {
    State state;
    uint16_t last, opened;  // of an open one: the last of the buckets that it stands for, and where its members are
    double mass, logarithms, count;
  };

  // counts, logarithms: whether to add up the number of candidates, until one is removed, and mass * log(mass).
  Buckets(BucketMemory& memory, const float* logits, const float* weights, size_t count, double temperature,
          bool counts, bool logarithms);

  const Bucket& operator[](size_t bucket) const { return buckets_[bucket]; }

  // Return bounds of the logarithms of weights in a bucket.
  double highest(size_t bucket) const;
  double lowest(size_t bucket) const;

  // Replaces some buckets by one, the first, and returns its members.
  Members& open(size_t first, size_t last);

  Members& members(size_t bucket) { return opened_[buckets_[bucket].opened]; }

  // Adds the members of an open bucket up again.
  void update(size_t bucket);

  // From now on `update` adds up masses only.
  void forget_logarithms() { has_logarithms_ = false; }

  // Removes a bucket.
  void empty(size_t bucket);

  // Returns the mass of all candidates.
  double total() const;

 private:
  template <bool kCounts, bool kLogarithms>
  void add_up();
  void collect(size_t first, size_t last, Members& to) const;
  __m256i places_of(size_t i, __m256 weights) const;

  BucketMemory& memory_;
  const float *logits_, *weights_;
  size_t count_;
  uint16_t* places_;
  bool has_logarithms_;
  float top_ = 0, scale_ = 0;
  double width_ = 0;
  Bucket buckets_[kCount];
  std::vector<Members> opened_;
};

}  // namespace infrs
