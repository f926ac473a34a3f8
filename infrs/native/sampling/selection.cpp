#include "selection.h"

#include <algorithm>
#include <cmath>

namespace infrs {

namespace {

constexpr size_t kBits = 11, kBuckets = 1 << kBits;
constexpr size_t kTables = 4;  // equal ranks would wait for each other's addition to one table

// Returns the first bucket with which `before` reaches the goal's mass, after adding those in front of it to `before`.
// If none does, returns the last bucket that is not empty.
size_t find(const double* buckets, Goal& goal) {
  size_t last = 0;
  double before_last = goal.before;
  for (size_t i = 0; i < kBuckets; ++i) {
    if (buckets[i] == 0) continue;
    last = i, before_last = goal.before;
    if (goal.before + buckets[i] >= goal.mass) return i;
    goal.before += buckets[i];
  }
  goal.before = before_last;
  return last;
}

// Adds the masses up by the ranks without their lowest bits.
size_t find_bits(const Row& row, size_t shift, Goal& goal) {
  double buckets[kTables][kBuckets] = {};
  const auto add = [&](size_t table, size_t i) {
    buckets[table][(row.ranks[i] >> shift) % kBuckets] += row.masses[i];
  };
  size_t i = 0;
  for (; i + kTables <= row.count; i += kTables) INFRS_UNROLL for (size_t j = 0; j < kTables; ++j) add(j, i + j);
  for (; i < row.count; ++i) add(0, i);
  for (size_t table = 1; table < kTables; ++table)
    for (size_t bucket = 0; bucket < kBuckets; ++bucket) buckets[0][bucket] += buckets[table][bucket];
  return find(buckets[0], goal);
}

// Writes the candidates of which the rank without its lowest bits equals `value` to `found`, which may be the same
// memory. There is no branch for each candidate, because it would be mispredicted.
void collect(const Row& row, size_t shift, uint32_t value, Row& found) {
  const __m128i bits = _mm_cvtsi64_si128(static_cast<int64_t>(shift));
  const __m256i wanted = _mm256_set1_epi32(static_cast<int>(value));
  const Places& orders = places();
  size_t count = 0;
  for (size_t i = 0; i < row.count; i += kLanes) {
    const __m256i ranks = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row.ranks + i));
    const __m256 masses = _mm256_loadu_ps(row.masses + i);
    auto set = static_cast<unsigned>(
        _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_srl_epi32(ranks, bits), wanted))));
    if (row.count - i < kLanes) set &= (1u << (row.count - i)) - 1;
    const __m256i first = orders.first(set);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(found.ranks + count), _mm256_permutevar8x32_epi32(ranks, first));
    _mm256_storeu_ps(found.masses + count, _mm256_permutevar8x32_ps(masses, first));
    count += static_cast<size_t>(__builtin_popcount(set));
  }
  found.count = count;
}

// A radix selection: looks at the ranks' highest bits, then, of those that reach the goal, at the next ones. Returns
// the rank that reaches the goal, and changes `row` to its candidates and `goal.before` to the mass in front of them.
uint32_t select(SelectionMemory& memory, Row& row, Goal& goal) {
  uint32_t least = 0xffffffff, most = 0;
  for (size_t i = 0; i < row.count; ++i) {
    least = std::min(least, row.ranks[i]);
    most = std::max(most, row.ranks[i]);
  }
  Row found{memory.ranks.take(row.count), memory.masses.take(row.count), 0};
  for (const size_t shift : {2 * kBits - 1, kBits - 1, size_t{0}}) {
    if (least >> shift == most >> shift) continue;
    const auto lowest = static_cast<uint32_t>(find_bits(row, shift, goal));
    least = ((least >> shift & ~static_cast<uint32_t>(kBuckets - 1)) | lowest) << shift;
    most = least + ((1u << shift) - 1);
    collect(row, shift, least >> shift, found);
    row = found;
  }
  return least;
}

}  // namespace

std::optional<size_t> taken(double each, const Goal& goal) {
  const double wanted = std::max(1.0, std::ceil((goal.mass - goal.before) / each));
  const double less = goal.before + (wanted - 1) * each, enough = goal.before + wanted * each;
  if ((less > 0 && goal.mass <= less + goal.slack) || goal.mass > enough - goal.slack) return std::nullopt;
  return static_cast<size_t>(wanted);
}

std::optional<First> reach(SelectionMemory& memory, Row row, Goal goal) {
  if (row.count == 0) return std::nullopt;
  const uint32_t rank = select(memory, row, goal);
  const auto count = taken(row.masses[0], goal);
  if (!count || *count > row.count) return std::nullopt;
  return First{rank, *count};
}

uint32_t rank_at(SelectionMemory& memory, Row row, Goal goal) { return select(memory, row, goal); }

}  // namespace infrs
