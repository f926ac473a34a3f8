#include "draws.h"

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>

#include "sampling.h"

namespace infrs {
namespace {

constexpr size_t kLanes = 8, kBlock = 256;

// Memory that a thread uses again for each row: to get it from the kernel takes longer than most filters.
template <typename Number>
class Scratch {
 public:
  Number* take(size_t count) {
    if (count > count_) {
      numbers_.reset(new Number[count]);
      count_ = count;
    }
    return numbers_.get();
  }

 private:
  std::unique_ptr<Number[]> numbers_;
  size_t count_ = 0;
};

// Ranks and masses of candidates, ascending by id. After them comes a rank that none has, with no mass.
struct Row {
  static size_t memory(size_t count) { return count + 2 * kLanes; }

  void end_at(size_t end) {
    count = end;
    std::fill_n(ranks + end, kLanes, 0xffffffff);
    std::fill_n(masses + end, kLanes, 0.0f);
  }

  uint32_t* ranks;
  float* masses;
  size_t count;
};

struct Workspace {
  Scratch<uint32_t> ranks, found_ranks;
  Scratch<int32_t> logarithms;
  Scratch<float> weights, found_masses, ones;
  Scratch<double> sums, buckets;
};

// Returns a number that ascends from the largest logit to the least.
inline uint32_t descending(float logit) {
  const float number = logit + 0.0f;  // which has no negative zero
  uint32_t bits;
  std::memcpy(&bits, &number, sizeof bits);
  return bits >> 31 ? bits : bits ^ 0x7fffffff;
}

// For each set of lanes: their places, and then others.
struct Places {
  Places() {
    for (unsigned set = 0; set < 1 << kLanes; ++set)
      for (int lane = 0, count = 0; lane < static_cast<int>(kLanes); ++lane)
        if (set >> lane & 1) of[set][count++] = lane;
  }

  int32_t of[1 << kLanes][kLanes] = {};
};

// Writes the candidates of `row` that pass to `passed`, which may be the same memory. passes(ranks, masses) returns
// the lanes. There is no branch for each candidate, because it would be mispredicted.
template <typename Passes>
void collect(const Row& row, Row& passed, Passes passes) {
  static const Places places;
  size_t count = 0;
  for (size_t i = 0; i < row.count; i += kLanes) {
    const __m256i ranks = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row.ranks + i));
    const __m256 masses = _mm256_loadu_ps(row.masses + i);
    const auto set = static_cast<unsigned>(_mm256_movemask_ps(passes(ranks, masses)));
    const __m256i to = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(places.of[set]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(passed.ranks + count), _mm256_permutevar8x32_epi32(ranks, to));
    _mm256_storeu_ps(passed.masses + count, _mm256_permutevar8x32_ps(masses, to));
    count += static_cast<size_t>(__builtin_popcount(set));
  }
  passed.end_at(count);
}

inline __m256 positive(__m256 numbers) { return _mm256_cmp_ps(numbers, _mm256_setzero_ps(), _CMP_GT_OQ); }

// Compares unsigned numbers.
inline __m256i at_most(__m256i one, __m256i other) { return _mm256_cmpeq_epi32(_mm256_min_epu32(one, other), one); }

// Does as the other with the candidates of which the rank without its lowest bits equals `value`.
void collect(const Row& row, Row& passed, size_t lowest_bits, uint32_t value) {
  const __m128i shift = _mm_cvtsi64_si128(static_cast<int64_t>(lowest_bits));
  const __m256i wanted = _mm256_set1_epi32(static_cast<int>(value));
  collect(row, passed, [&](__m256i ranks, __m256) {
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_srl_epi32(ranks, shift), wanted));
  });
}

// Returns the place after the n-th of ranks [count] that equals `rank`; count if there are fewer.
size_t after(size_t n, uint32_t rank, size_t count, const uint32_t* ranks) {
  for (size_t block = 0; block < count; block += kBlock) {
    const size_t end = std::min(block + kBlock, count);
    const auto equal = static_cast<size_t>(std::count(ranks + block, ranks + end, rank));
    if (n <= equal)
      for (size_t i = block;; ++i)
        if (ranks[i] == rank && --n == 0) return i + 1;
    n -= equal;
  }
  return count;
}

// The first candidates of an order: those below a rank, and of those that have it the first `taken`.
struct First {
  uint32_t rank;
  size_t taken;
  double mass;
};

// The masses of a row's candidates by rank. A radix selection finds places in this order without a sort.
class Order {
 public:
  // At most one order at a time may use a workspace.
  Order(Workspace& workspace, const Row& row)
      : row_(row),
        found_{workspace.found_ranks.take(Row::memory(row.count)), workspace.found_masses.take(Row::memory(row.count)),
               0},
        highest_(workspace.buckets.take(kHighest)) {
    std::fill_n(highest_, kHighest, 0.0);
    for (size_t i = 0; i < row.count; ++i) highest_[row.ranks[i] >> 2 * kBits] += row.masses[i];
    for (size_t block = 0; block < kHighest; block += kBlock) total_ += sum(highest_ + block);
  }

  double total() const { return total_; }

  // Returns the first candidates that have a mass of at least `goal` together, or nothing if sums that differ by
  // `slack` could give others.
  std::optional<First> reach(double goal, double slack) {
    double before = 0;
    auto rank = static_cast<uint32_t>(find(highest_, kHighest, goal, before));
    collect(row_, found_, 2 * kBits, rank);
    for (const size_t bits : {kBits, size_t{0}}) {
      double buckets[kTables][kLower] = {};  // equal ranks would wait for each other's addition to one table
      for (size_t i = 0; i < found_.count; ++i)
        buckets[i % kTables][(found_.ranks[i] >> bits) % kLower] += found_.masses[i];
      for (size_t table = 1; table < kTables; ++table)
        for (size_t i = 0; i < kLower; ++i) buckets[0][i] += buckets[table][i];
      rank = static_cast<uint32_t>(rank << kBits | find(buckets[0], kLower, goal, before));
      collect(found_, found_, bits, rank);
    }
    if (found_.count == 0) return std::nullopt;
    const double each = found_.masses[0], taken = std::max(1.0, std::ceil((goal - before) / each));
    const double least = before + (taken - 1) * each, most = before + taken * each;
    if ((least > 0 && goal <= least + slack) || !(goal < most - slack)) return std::nullopt;
    return First{rank, static_cast<size_t>(taken), most};
  }

 private:
  static constexpr size_t kBits = 9, kLower = 1 << kBits, kHighest = 1 << (32 - 2 * kBits), kTables = 8;

  static double sum(const double* buckets) {
    double sums[4] = {};
    for (size_t i = 0; i < kBlock; i += 4)
      for (size_t j = 0; j < 4; ++j) sums[j] += buckets[i + j];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }

  // Returns the first bucket with which `before` reaches the goal, after adding those in front of it to `before`; the
  // last bucket if none does.
  static size_t find(const double* buckets, size_t count, double goal, double& before) {
    for (size_t block = 0; block < count; block += kBlock) {
      const double all = sum(buckets + block);
      if (all == 0 || before + all < goal) {
        before += all;
        continue;
      }
      for (size_t i = block; i < block + kBlock; ++i) {
        if (buckets[i] > 0 && before + buckets[i] >= goal) return i;
        before += buckets[i];
      }
    }
    return count - 1;
  }

  Row row_, found_;
  double* highest_;
  double total_ = 0;
};

// The candidates of a row that filters have kept.
class Candidates {
 public:
  Candidates(Workspace& workspace, const float* logits, const float* weights, size_t count)
      : row_{workspace.ranks.take(Row::memory(count)), workspace.weights.take(Row::memory(count)), count} {
    for (size_t i = 0; i < count; ++i) {
      row_.ranks[i] = descending(logits[i]);
      row_.masses[i] = weights[i];
    }
    row_.end_at(count);
    if (std::count(weights, weights + count, 0.0f)) keep_at_least(0);
  }

  const Row& row() const { return row_; }

  // Keeps the first of an order that has other ranks for the same candidates. Returns whether all those with a rank
  // within `margin` of the last one's have the same logit.
  bool keep(const First& first, const uint32_t* order, uint32_t margin = 0) {
    for (size_t i = after(first.taken, first.rank, row_.count, order); i < row_.count; ++i)
      row_.masses[i] = order[i] == first.rank ? 0 : row_.masses[i];
    const __m256i last = _mm256_set1_epi32(static_cast<int>(first.rank));
    const __m256i nearest = _mm256_set1_epi32(static_cast<int>(first.rank - margin));
    const __m256i widest = _mm256_set1_epi32(static_cast<int>(2 * margin));
    __m256i least = _mm256_set1_epi32(-1), most = _mm256_setzero_si256();
    collect(row_, row_, [&](__m256i ranks, __m256 masses) {
      const __m256i here = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(order));
      order += kLanes;
      const __m256i is_near = at_most(_mm256_sub_epi32(here, nearest), widest);
      least = _mm256_min_epu32(least, _mm256_or_si256(ranks, _mm256_xor_si256(is_near, _mm256_set1_epi32(-1))));
      most = _mm256_max_epu32(most, _mm256_and_si256(ranks, is_near));
      return _mm256_and_ps(_mm256_castsi256_ps(at_most(here, last)), positive(masses));
    });
    uint32_t lanes[2][kLanes];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes[0]), least);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes[1]), most);
    return *std::min_element(lanes[0], lanes[0] + kLanes) == *std::max_element(lanes[1], lanes[1] + kLanes);
  }

  // Keeps candidates with weights of at least `least`.
  void keep_at_least(float least) {
    const __m256 border = _mm256_set1_ps(least);
    collect(row_, row_, [border](__m256i, __m256 masses) {
      return _mm256_and_ps(_mm256_cmp_ps(masses, border, _CMP_GE_OQ), positive(masses));
    });
  }

 private:
  Row row_;
};

// Returns the least and the largest weight of the candidates up to a rank.
std::pair<float, float> extremes(const Row& row, uint32_t rank) {
  const __m256 most = _mm256_set1_ps(std::numeric_limits<float>::infinity());
  const __m256i last = _mm256_set1_epi32(static_cast<int>(rank));
  __m256 least = most, largest = _mm256_setzero_ps();
  for (size_t i = 0; i < row.count; i += kLanes) {
    const __m256i ranks = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row.ranks + i));
    const __m256 masses = _mm256_loadu_ps(row.masses + i);
    const __m256 is_in = _mm256_and_ps(_mm256_castsi256_ps(at_most(ranks, last)), positive(masses));
    least = _mm256_min_ps(least, _mm256_blendv_ps(most, masses, is_in));
    largest = _mm256_max_ps(largest, _mm256_and_ps(masses, is_in));
  }
  float lanes[2][kLanes];
  _mm256_storeu_ps(lanes[0], least);
  _mm256_storeu_ps(lanes[1], largest);
  return {*std::min_element(lanes[0], lanes[0] + kLanes), *std::max_element(lanes[1], lanes[1] + kLanes)};
}

// Keeps the locally typical candidates: those with a logarithm nearest to the mean of all, weighted. Returns false if
// candidates of another logit are within 2e-7 of the border.
bool keep_typical(Workspace& workspace, Candidates& candidates, double typical_p, double relative) {
  const Row& row = candidates.row();
  const size_t num_sums = (row.count + kSumBlock - 1) / kSumBlock;
  int32_t* const logarithms = workspace.logarithms.take(Row::memory(row.count));
  double* const sums = workspace.sums.take(num_sums);
  const double weighted = weigh_logarithms(row.masses, row.count, sums, logarithms);
  const double mean = weighted / std::accumulate(sums, sums + num_sums, 0.0);
  const auto middle = static_cast<int32_t>(std::lround(mean * kLogarithm));
  Row by_distance{reinterpret_cast<uint32_t*>(logarithms), row.masses, row.count};
  for (size_t i = 0; i < row.count; ++i)
    by_distance.ranks[i] = static_cast<uint32_t>(std::abs(logarithms[i] - middle));
  by_distance.end_at(row.count);
  Order order(workspace, by_distance);
  const auto first = order.reach(typical_p * order.total(), relative * order.total());
  if (!first) return false;
  return candidates.keep(*first, by_distance.ranks, 2);  // equal distances have ranks that differ by at most 2
}

}  // namespace

int64_t draw(const float* logits, const float* weights, size_t count, const Filters& filters, double uniform) {
  static thread_local Workspace workspace;
  // How far two sums of so many weights may differ by the order of their additions, relative to the sum.
  const double relative = 4 * static_cast<double>(count) * std::numeric_limits<double>::epsilon();
  Candidates candidates(workspace, logits, weights, count);
  const Row& row = candidates.row();
  if (filters.top_k && filters.top_k < row.count) {
    const Row ones{row.ranks, workspace.ones.take(Row::memory(row.count)), row.count};
    std::fill_n(ones.masses, Row::memory(row.count), 1.0f);
    const auto first = Order(workspace, ones).reach(static_cast<double>(filters.top_k) - 0.5, 0);
    if (!first) return kUndecided;
    candidates.keep(*first, row.ranks);
  }
  if (filters.typical_p < 1 && !keep_typical(workspace, candidates, filters.typical_p, relative)) return kUndecided;
  Order order(workspace, row);
  First last{0xffffffff, 1, order.total()};
  if (filters.top_p < 1) {
    const auto first = order.reach(filters.top_p * last.mass, relative * last.mass);
    if (!first) return kUndecided;
    last = *first;
  }
  if (filters.min_p > 0) {
    const auto [smallest, largest] = extremes(row, last.rank);
    const float least = filters.min_p * largest;
    if (smallest < least) {
      candidates.keep(last, row.ranks);
      candidates.keep_at_least(least);
      order = Order(workspace, row);
      last.mass = order.total();
    }
  }
  const auto drawn = order.reach(uniform * last.mass, relative * last.mass);
  if (!drawn) return kUndecided;
  // Of equal logits, the filters have kept those with the lowest ids.
  uint32_t* const ranks = workspace.ranks.take(count);
  for (size_t i = 0; i < count; ++i) ranks[i] = descending(logits[i]);
  return static_cast<int64_t>(after(drawn->taken, drawn->rank, count, ranks)) - 1;
}

}  // namespace infrs
