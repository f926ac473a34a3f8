#include "attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "../base/simd.h"
#include "queries.h"

namespace infrs {
namespace {

constexpr size_t kValueBlock = 64;             // values that stay in the L1 cache while every query reads them
constexpr size_t kPartWork = 1 << 15;
constexpr size_t kTilesPerThread = 8;          // enough to balance the threads without splitting the keys
constexpr size_t kMaxPartialFloats = 1 << 22;  // of split keys, if each thread has four tiles without splitting

template <typename Stored>
void rotate(const AttentionShape<Stored>& shape, const AttentionRun<Stored>& run, size_t position, const float* x,
            float* y) {
  std::memcpy(y, x, shape.head_dim * sizeof(float));
  if (!run.cos) return;
  const size_t width = run.rotary_width;
  const float* cos = run.cos + position * width;
  const float* sin = run.sin + position * width;
  for (size_t i = 0; i < width; ++i) {
    const size_t a = shape.interleaved ? 2 * i : i, b = shape.interleaved ? 2 * i + 1 : i + width;
    const float left = x[a], right = x[b];
    y[a] = left * cos[i] - right * sin[i];
    y[b] = right * cos[i] + left * sin[i];
  }
}

__m256 cap(__m256 score, float limit) {
  const __m256 limits = _mm256_set1_ps(limit);
  return _mm256_mul_ps(limits, tanh_lanes(_mm256_div_ps(score, limits)));
}

// Turns the dot products of a query with the 32 keys from `start` on into scores. A key outside its range gets
// -infinity. scales: of the keys from `start` on, eight at a time; null: none.
template <typename Stored>
void weigh(const AttentionShape<Stored>& shape, const Query& query, size_t start, const float* const* scales,
           float* scores) {
  const bool sees_all = query.first <= start && start + kScoreKeys <= query.end;
  const __m256 scale = _mm256_set1_ps(shape.scale);
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i first = _mm256_set1_epi32(static_cast<int>(query.first));
  const __m256i end = _mm256_set1_epi32(static_cast<int>(query.end));
  for (size_t i = 0; i < kScoreKeys; i += kLanes) {
    __m256 score = _mm256_loadu_ps(scores + i);
    if (kHasScales<Stored>) score = _mm256_mul_ps(score, _mm256_loadu_ps(scales[i / kLanes]));
    score = _mm256_mul_ps(score, scale);
    if (shape.softcap > 0) score = cap(score, shape.softcap);
    if (!sees_all) {
      const __m256i place = _mm256_add_epi32(_mm256_set1_epi32(static_cast<int>(start + i)), lane);
      const __m256i seen = _mm256_andnot_si256(_mm256_cmpgt_epi32(first, place), _mm256_cmpgt_epi32(end, place));
      score = _mm256_blendv_ps(_mm256_set1_ps(-kInfinity), score, _mm256_castsi256_ps(seen));
    }
    _mm256_storeu_ps(scores + i, score);
  }
}

// Computes the scores of the 32 keys from `start` on, in groups of eight. scales: those of each group. scores:
// [queries, kPartition], of which 32 columns are written.
template <typename Shape, typename Loaded>
void score(const Shape& shape, const AttentionLoops<Loaded>& loops, const Loaded* const* groups,
           const float* const* scales, size_t start, const Query* queries, size_t num_queries, float* scores) {
  for (size_t q = 0; q < num_queries; q += loops.together) {
    const size_t count = std::min(loops.together, num_queries - q);
    const float* features[kMaxTogether];
    float* targets[kMaxTogether];
    for (size_t r = 0; r < count; ++r) {
      features[r] = queries[q + r].features;
      targets[r] = scores + (q + r) * kPartition;
    }
    loops.dots[count - 1](shape.head_dim, features, groups, targets);
    for (size_t r = 0; r < count; ++r) weigh(shape, queries[q + r], start, scales, targets[r]);
  }
}

// Adds to each query's output the values of [block, end) that it attends to. values and weights [queries, kPartition]
// start at `block`.
template <typename Loaded>
void add(size_t dim, const AttentionLoops<Loaded>& loops, const Loaded* values, size_t block, size_t end,
         const Query* queries, size_t num_queries, const float* weights, float* outputs) {
  for (size_t q = 0; q < num_queries; q += loops.together) {
    const size_t last = std::min(q + loops.together, num_queries);
    // The queries share a pass over the keys that all of them attend to. Each handles its other keys alone.
    size_t common = block, stop = end;
    for (size_t r = q; r < last; ++r) {
      common = std::max(common, queries[r].first);
      stop = std::min(stop, queries[r].end);
    }
    stop = std::max(stop, common);
    const auto take = [&](size_t first_query, size_t count, size_t from, size_t to) {
      const float* taken[kMaxTogether];
      float* output[kMaxTogether];
      for (size_t r = 0; r < count; ++r) {
        taken[r] = weights + (first_query + r) * kPartition + (from - block);
        output[r] = outputs + (first_query + r) * dim;
      }
      loops.add_values[count - 1](dim, values + (from - block) * dim, taken, to - from, output);
    };
    const auto alone = [&](size_t from, size_t to) {
      for (size_t r = q; r < last; ++r) {
        const size_t begin = std::max(from, queries[r].first), until = std::min(to, queries[r].end);
        if (begin < until) take(r, 1, begin, until);
      }
    };
    alone(block, std::min(common, end));
    if (common < stop) take(q, last - q, common, stop);
    alone(stop, end);
  }
}

template <typename Stored>
void widen(const Stored* x, size_t count, float* y) {
  for (size_t i = 0; i < count; i += kLanes) _mm256_storeu_ps(y + i, load_lanes(x + i));
}

// Merges the softmax of a later partition into `query`.
void fold(size_t head_dim, Query& query, const Partial& partial, const float* output) {
  if (partial.sum == 0) return;  // the query attends to no key there
  const float top = std::max(query.max, partial.max);
  const float kept = exp_one(query.max - top), added = exp_one(partial.max - top);
  query.max = top;
  query.sum = query.sum * kept + partial.sum * added;
  const __m256 a = _mm256_set1_ps(kept), b = _mm256_set1_ps(added);
  for (size_t d = 0; d < head_dim; d += kLanes) {
    const __m256 old = _mm256_mul_ps(_mm256_loadu_ps(query.output + d), a);
    _mm256_storeu_ps(query.output + d, _mm256_add_ps(old, _mm256_mul_ps(_mm256_loadu_ps(output + d), b)));
  }
}

void finish(size_t head_dim, Query& query) {
  const __m256 sum = _mm256_set1_ps(query.sum);
  for (size_t d = 0; d < head_dim; d += kLanes)
    _mm256_storeu_ps(query.output + d, _mm256_div_ps(_mm256_loadu_ps(query.output + d), sum));
}

// Computes the softmax of one partition for some queries of one key head. outputs: [queries, head_dim]. A query that
// attends to no key of the partition gets a sum of zero.
template <typename Stored>
void attend_partition(const AttentionShape<Stored>& shape, const Block<Stored>& keys, const Block<Stored>& values,
                      size_t capacity, size_t partition, const Query* queries, size_t num_queries, Partial* partials,
                      float* outputs) {
  alignas(32) float scores[kTileQueries * kPartition];
  const size_t dim = shape.head_dim, begin = partition * kPartition;
  // If more queries than one loop handles share the keys and values, these are widened once for all queries.
  constexpr bool kNarrow = !std::is_same_v<Stored, float>;
  alignas(32) float wide[kNarrow ? kValueBlock * kMaxHeadDim : 1];
  const bool widens = kNarrow && num_queries > shape.loops.together;
  size_t first = begin + kPartition, end = begin;
  for (size_t q = 0; q < num_queries; ++q) {
    first = std::min(first, std::max(begin, queries[q].first));
    end = std::max(end, std::min(begin + kPartition, queries[q].end));
  }
  for (size_t start = first / kScoreKeys * kScoreKeys; start < end; start += kScoreKeys) {
    const Stored* groups[kScoreGroups];
    const float* scales[kScoreGroups];
    for (size_t g = 0; g < kScoreGroups; ++g) {  // no query attends to keys beyond the capacity
      const size_t key = std::min(start + g * kLanes, capacity - kLanes);
      groups[g] = keys.numbers + key * dim;
      scales[g] = keys.scales + (kHasScales<Stored> ? key : 0);
    }
    float* const targets = scores + (start - begin);
    if constexpr (kNarrow) {
      if (widens) {
        const float* wide_groups[kScoreGroups];
        for (size_t g = 0; g < kScoreGroups; ++g) {
          widen(groups[g], kLanes * dim, wide + g * kLanes * dim);
          wide_groups[g] = wide + g * kLanes * dim;
        }
        score(shape, shape.wide_loops, wide_groups, scales, start, queries, num_queries, targets);
        continue;
      }
    }
    score(shape, shape.loops, groups, scales, start, queries, num_queries, targets);
  }
  for (size_t q = 0; q < num_queries; ++q) {
    const Query& query = queries[q];
    std::memset(outputs + q * dim, 0, dim * sizeof(float));
    partials[q] = {-kInfinity, 0.0f};
    if (query.first >= begin + kPartition || query.end <= begin) continue;
    const size_t from = std::max(begin, query.first) / kLanes * kLanes, to = std::min(begin + kPartition, query.end);
    float* const weights = scores + q * kPartition + (from - begin);
    partials[q] = shape.loops.softmax(weights, to - from);
    if (kHasScales<Stored>)  // the weights of positions beyond `to` in its group of eight are zero or not used
      for (size_t i = 0; i < to - from; i += kLanes)
        _mm256_storeu_ps(weights + i,
                         _mm256_mul_ps(_mm256_loadu_ps(weights + i), _mm256_loadu_ps(values.scales + from + i)));
  }
  for (size_t block = first / kValueBlock * kValueBlock; block < end; block += kValueBlock) {
    const size_t until = std::min(block + kValueBlock, end);
    const Stored* const from = values.numbers + block * dim;
    const float* const weights = scores + (block - begin);
    if constexpr (kNarrow) {
      if (widens) {
        widen(from, (until - block) * dim, wide);
        add(dim, shape.wide_loops, wide, block, until, queries, num_queries, weights, outputs);
        continue;
      }
    }
    add(dim, shape.loops, from, block, until, queries, num_queries, weights, outputs);
  }
}

// The following functions store a key or a value, and return its scale.
float store(const float* x, size_t count, float* y) {
  std::memcpy(y, x, count * sizeof(float));
  return 1.0f;
}

// Rounds to nearest, ties to even. A finite number that is too large for 16 bits becomes the largest half. Infinities
// stay, so the engine still detects scores that are not finite.
float store(const float* x, size_t count, Half* y) {
  const __m256 largest = _mm256_set1_ps(65504.0f), sign = _mm256_set1_ps(-0.0f);
  const __m256 infinity = _mm256_set1_ps(kInfinity);
  for (size_t i = 0; i < count; i += kLanes) {
    const __m256 value = _mm256_loadu_ps(x + i);
    const __m256 bounded = _mm256_max_ps(_mm256_xor_ps(largest, sign), _mm256_min_ps(largest, value));
    const __m256 is_finite = _mm256_cmp_ps(_mm256_andnot_ps(sign, value), infinity, _CMP_LT_OQ);
    const __m128i halves = _mm256_cvtps_ph(_mm256_blendv_ps(value, bounded, is_finite), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + i), halves);
  }
  return 1.0f;
}

// Rounds to nearest, ties to even. If a number is not finite, the scale is not finite either, so the engine still
// detects scores that are not finite.
float store(const float* x, size_t count, Byte* y) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  __m256 largest = _mm256_setzero_ps(), odd = _mm256_setzero_ps();  // odd: NaN where a number is not finite
  for (size_t i = 0; i < count; i += kLanes) {
    const __m256 value = _mm256_loadu_ps(x + i);
    largest = _mm256_max_ps(largest, _mm256_andnot_ps(sign, value));
    odd = _mm256_add_ps(odd, _mm256_sub_ps(value, value));
  }
  const float scale = max_lane(largest) / 127 + sum_lanes(odd);
  const __m256 by = _mm256_set1_ps(scale > 0 ? scale : 1.0f);
  for (size_t i = 0; i < count; i += kLanes) {
    const __m256i whole = _mm256_cvtps_epi32(_mm256_div_ps(_mm256_loadu_ps(x + i), by));
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(y + i), _mm_packs_epi16(words, words));
  }
  return scale;
}

// Rotates the queries and stores the keys and values of the tokens [first, last), which are numbered over all rows.
template <typename Stored>
void take_in(const AttentionShape<Stored>& shape, const AttentionRun<Stored>& run, size_t first, size_t last,
             float* rotated) {
  const size_t dim = shape.head_dim, width = shape.num_heads * dim;
  float key[kMaxHeadDim];
  Stored stored[kMaxHeadDim];
  for (size_t i = first; i < last; ++i) {
    const size_t row = i / run.tokens, place = position(run, row, i % run.tokens);
    for (size_t head = 0; head < shape.num_heads; ++head)
      rotate(shape, run, place, run.query + i * run.query_stride + head * dim, rotated + i * width + head * dim);
    for (size_t head = 0; head < shape.num_kv_heads; ++head) {
      const Block<Stored> keys = block_of(shape, run, run.keys, row, head);
      const Block<Stored> values = block_of(shape, run, run.values, row, head);
      rotate(shape, run, place, run.key + i * run.key_stride + head * dim, key);
      const float key_scale = store(key, dim, stored);
      Stored* target = keys.numbers + place / kLanes * kLanes * dim + place % kLanes;
      for (size_t d = 0; d < dim; ++d) target[d * kLanes] = stored[d];
      const float value_scale =
          store(run.value + i * run.key_stride + head * dim, dim, values.numbers + place * dim);
      if (kHasScales<Stored>) {
        keys.scales[place] = key_scale;
        values.scales[place] = value_scale;
      }
    }
  }
}

// Computes the whole softmax of each query of a tile, one partition after the other.
template <typename Stored>
void attend_tile(const AttentionShape<Stored>& shape, size_t capacity, Tile<Stored>& tile) {
  const size_t dim = shape.head_dim;
  alignas(32) float outputs[kTileQueries * kMaxHeadDim];
  Partial partials[kTileQueries];
  size_t from = tile.queries[0].first, to = 0;
  for (size_t q = 0; q < tile.num_queries; ++q) {
    std::memset(tile.queries[q].output, 0, dim * sizeof(float));
    from = std::min(from, tile.queries[q].first);
    to = std::max(to, tile.queries[q].end);
  }
  for (size_t p = from / kPartition; p * kPartition < to; ++p) {
    attend_partition(shape, tile.keys, tile.values, capacity, p, tile.queries, tile.num_queries, partials, outputs);
    for (size_t q = 0; q < tile.num_queries; ++q) fold(dim, tile.queries[q], partials[q], outputs + q * dim);
  }
  for (size_t q = 0; q < tile.num_queries; ++q) finish(dim, tile.queries[q]);
}

}  // namespace

template <typename Stored>
void attend(const AttentionShape<Stored>& shape, const AttentionRun<Stored>& run, const Parallel& parallel) {
  const size_t num_tokens = run.rows * run.tokens;
  if (!num_tokens) return;
  const size_t dim = shape.head_dim, width = shape.num_heads * dim;
  const Tiles<Stored> tiles(shape, run);
  const size_t row_tiles = tiles.of_row(), num_tiles = run.rows * row_tiles, tile_floats = tiles.queries() * dim;

  static thread_local std::vector<RowUnits> own_units;  // workers use the calling thread's, through a reference
  static thread_local std::vector<float> scratch;
  static thread_local std::vector<Partial> partial_scratch;
  std::vector<RowUnits>& rows = own_units;
  list_units(shape, run, row_tiles, rows);
  const size_t num_units = rows.back().start;
  size_t longest = 0, most_keys = 0;  // partitions and keys of a tile
  for (size_t row = 0; row < run.rows; ++row) {
    longest = std::max(longest, rows[row].count);
    most_keys = std::max(most_keys, position(run, row, run.tokens));
  }
  const bool whole = longest == 1 || longest * kTilesPerThread * parallel.threads <= num_units ||
                     (num_tiles >= 4 * parallel.threads && num_units * tile_floats > kMaxPartialFloats);

  scratch.resize(num_tokens * width + (whole ? 0 : num_units * tile_floats));
  partial_scratch.resize(whole ? 0 : num_units * tiles.queries());
  float* const rotated = scratch.data();
  float* const outputs = rotated + num_tokens * width;
  Partial* const partials = partial_scratch.data();

  parallel(num_tokens, std::max<size_t>(1, kPartWork / (4 * width)),
           [&](size_t first, size_t last) { take_in(shape, run, first, last, rotated); });

  const size_t grain = kPartWork / (2 * tile_floats * std::min(most_keys, kPartition));
  if (whole) {
    parallel.uneven(num_tiles, grain, [&](size_t first, size_t last) {
      for (size_t index = first; index < last; ++index) {
        Tile<Stored> tile = tiles.make(index / row_tiles, index % row_tiles, rotated);
        attend_tile(shape, run.capacity, tile);
      }
    });
    return;
  }
  parallel.uneven(num_units, grain, [&](size_t first, size_t last) {
    size_t row = 0;
    for (size_t unit = first; unit < last; ++unit) {
      while (unit >= rows[row + 1].start) ++row;
      const size_t place = unit - rows[row].start, count = rows[row].count;
      const Tile<Stored> tile = tiles.make(row, place / count, rotated);
      attend_partition(shape, tile.keys, tile.values, run.capacity, rows[row].first + place % count, tile.queries,
                       tile.num_queries, partials + unit * tiles.queries(), outputs + unit * tile_floats);
    }
  });
  parallel(num_tiles, kPartWork * num_tiles / (num_units * tile_floats), [&](size_t first, size_t last) {
    for (size_t index = first; index < last; ++index) {
      const RowUnits& row = rows[index / row_tiles];
      Tile<Stored> tile = tiles.make(index / row_tiles, index % row_tiles, rotated);
      for (size_t q = 0; q < tile.num_queries; ++q) {
        std::memset(tile.queries[q].output, 0, dim * sizeof(float));
        for (size_t p = 0; p < row.count; ++p) {
          const size_t place = (row.start + index % row_tiles * row.count + p) * tiles.queries() + q;
          fold(dim, tile.queries[q], partials[place], outputs + place * dim);
        }
        finish(dim, tile.queries[q]);
      }
    }
  });
}

template void attend(const AttentionShape<float>&, const AttentionRun<float>&, const Parallel&);
template void attend(const AttentionShape<Half>&, const AttentionRun<Half>&, const Parallel&);
template void attend(const AttentionShape<Byte>&, const AttentionRun<Byte>&, const Parallel&);

}  // namespace infrs
