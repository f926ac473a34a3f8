#include "attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "simd.h"

namespace infrs {
namespace {

constexpr size_t kPartition = 256;   // keys whose softmax is computed at once; partitions are then folded in order
constexpr size_t kValueBlock = 64;   // values that stay in the first-level cache while every query takes them
constexpr size_t kTileQueries = 24;  // queries that share a pass over the keys
constexpr size_t kPartWork = 1 << 15;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// One query: what it sees, and its softmax so far. An output is sum(weight * value) / sum, weights relative to `max`.
struct Query {
  const float* features;
  size_t first, end;  // keys
  float max, sum;
  float* output;
};

void rotate(const AttentionShape& shape, const AttentionRun& run, size_t position, const float* x, float* y) {
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
  alignas(32) float lanes[kLanes];
  _mm256_store_ps(lanes, score);
  for (float& lane : lanes) lane = limit * std::tanh(lane / limit);
  return _mm256_load_ps(lanes);
}

// Turns the dot products of a query with the 32 keys from `start` on into scores. What it does not see is -infinity.
void weigh(const AttentionShape& shape, const Query& query, size_t start, float* scores) {
  const bool sees_all = query.first <= start && start + kScoreKeys <= query.end;
  const __m256 scale = _mm256_set1_ps(shape.scale);
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i first = _mm256_set1_epi32(static_cast<int>(query.first));
  const __m256i end = _mm256_set1_epi32(static_cast<int>(query.end));
  for (size_t i = 0; i < kScoreKeys; i += kLanes) {
    __m256 score = _mm256_mul_ps(_mm256_loadu_ps(scores + i), scale);
    if (shape.softcap > 0) score = cap(score, shape.softcap);
    if (!sees_all) {
      const __m256i place = _mm256_add_epi32(_mm256_set1_epi32(static_cast<int>(start + i)), lane);
      const __m256i seen = _mm256_andnot_si256(_mm256_cmpgt_epi32(first, place), _mm256_cmpgt_epi32(end, place));
      score = _mm256_blendv_ps(_mm256_set1_ps(-kInfinity), score, _mm256_castsi256_ps(seen));
    }
    _mm256_storeu_ps(scores + i, score);
  }
}

// Scores of some queries, no more than are taken together, and the keys from `start`, a multiple of 32, on: 32 of each.
// scores: [queries, kPartition], of which 32 columns are written. Keys beyond `capacity` are seen by no query.
void score(const AttentionShape& shape, const float* keys, size_t capacity, size_t start, const Query* queries,
           size_t num_queries, float* scores) {
  const float* groups[kScoreGroups];
  for (size_t g = 0; g < kScoreGroups; ++g)
    groups[g] = keys + std::min(start + g * kLanes, capacity - kLanes) * shape.head_dim;
  const float* features[kMaxTogether];
  float* targets[kMaxTogether];
  for (size_t r = 0; r < num_queries; ++r) {
    features[r] = queries[r].features;
    targets[r] = scores + r * kPartition;
  }
  shape.loops.dots[num_queries - 1](shape.head_dim, features, groups, targets);
  for (size_t r = 0; r < num_queries; ++r) weigh(shape, queries[r], start, targets[r]);
}

// Merges a later partition's softmax into `query`.
void fold(size_t head_dim, Query& query, const Partial& partial, const float* output) {
  if (partial.sum == 0) return;  // nothing seen there
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

// The softmax of one partition for some queries of one head of keys. `outputs`: [queries, head_dim]; a query that
// sees nothing of the partition gets a sum of zero.
void attend_partition(const AttentionShape& shape, const float* keys, const float* values, size_t capacity,
                      size_t partition, const Query* queries, size_t num_queries, Partial* partials,
                      float* outputs) {
  alignas(32) float scores[kTileQueries * kPartition];
  const size_t together = shape.loops.together, begin = partition * kPartition;
  const AddValues* const add_values = shape.loops.add_values;
  size_t first = begin + kPartition, end = begin;
  for (size_t q = 0; q < num_queries; ++q) {
    first = std::min(first, std::max(begin, queries[q].first));
    end = std::max(end, std::min(begin + kPartition, queries[q].end));
  }
  const auto seen = [&](const Query& query, size_t from, size_t to) { return query.first < to && query.end > from; };
  for (size_t start = first / kScoreKeys * kScoreKeys; start < end; start += kScoreKeys) {
    for (size_t q = 0; q < num_queries; q += together) {
      const size_t count = std::min(together, num_queries - q);
      score(shape, keys, capacity, start, queries + q, count, scores + q * kPartition + (start - begin));
    }
  }
  for (size_t q = 0; q < num_queries; ++q) {
    const Query& query = queries[q];
    std::memset(outputs + q * shape.head_dim, 0, shape.head_dim * sizeof(float));
    partials[q] = {-kInfinity, 0.0f};
    if (!seen(query, begin, begin + kPartition)) continue;
    const size_t from = std::max(begin, query.first) / kLanes * kLanes, to = std::min(begin + kPartition, query.end);
    partials[q] = shape.loops.softmax(scores + q * kPartition + (from - begin), to - from);
  }
  for (size_t block = first / kValueBlock * kValueBlock; block < end; block += kValueBlock) {
    for (size_t q = 0; q < num_queries; q += together) {
      const size_t count = std::min(together, num_queries - q);
      // Keys that all of them see are taken together; the others see what is before and after.
      size_t common = block, stop = std::min(block + kValueBlock, end);
      for (size_t r = q; r < q + count; ++r) {
        common = std::max(common, queries[r].first);
        stop = std::min(stop, queries[r].end);
      }
      stop = std::max(stop, common);
      const auto alone = [&](size_t from, size_t to) {
        for (size_t r = q; r < q + count; ++r) {
          const size_t start = std::max(from, queries[r].first), last = std::min(to, queries[r].end);
          if (start >= last) continue;
          const float* weights[] = {scores + r * kPartition + (start - begin)};
          float* output[] = {outputs + r * shape.head_dim};
          add_values[0](shape.head_dim, values + start * shape.head_dim, weights, last - start, output);
        }
      };
      alone(block, std::min(common, block + kValueBlock));
      if (common < stop) {
        const float* weights[kMaxTogether];
        float* output[kMaxTogether];
        for (size_t r = 0; r < count; ++r) {
          weights[r] = scores + (q + r) * kPartition + (common - begin);
          output[r] = outputs + (q + r) * shape.head_dim;
        }
        add_values[count - 1](shape.head_dim, values + common * shape.head_dim, weights, stop - common, output);
      }
      alone(stop, block + kValueBlock);
    }
  }
}

// A token's place in its row.
size_t position(const AttentionRun& run, size_t row, size_t token) {
  return static_cast<size_t>(run.lengths[row]) + 1 - run.tokens + token;
}

// Rotates the queries and stores the keys and values of the tokens [first, last), counted over all rows.
void take_in(const AttentionShape& shape, const AttentionRun& run, size_t first, size_t last, float* rotated) {
  const size_t dim = shape.head_dim, width = shape.num_heads * dim;
  float key[kMaxHeadDim];
  for (size_t i = first; i < last; ++i) {
    const size_t row = i / run.tokens, place = position(run, row, i % run.tokens);
    for (size_t head = 0; head < shape.num_heads; ++head)
      rotate(shape, run, place, run.query + i * run.query_stride + head * dim, rotated + i * width + head * dim);
    for (size_t head = 0; head < shape.num_kv_heads; ++head) {
      const size_t base = (row * shape.num_kv_heads + head) * run.capacity * dim;
      rotate(shape, run, place, run.key + i * run.key_stride + head * dim, key);
      float* target = run.keys + base + place / kLanes * kLanes * dim + place % kLanes;
      for (size_t d = 0; d < dim; ++d) target[d * kLanes] = key[d];
      std::memcpy(run.values + base + place * dim, run.value + i * run.key_stride + head * dim, dim * sizeof(float));
    }
  }
}

// Some tokens of a row, with query heads that share one head of keys.
struct Tile {
  const float *keys, *values;
  Query queries[kTileQueries];
  size_t num_queries = 0;
};

// A run's queries cut into tiles, that heads which share keys read them once.
class Tiles {
 public:
  Tiles(const AttentionShape& shape, const AttentionRun& run)
      : shape_(shape), run_(run), heads_(shape.num_heads / shape.num_kv_heads),
        tile_heads_(std::min(heads_, kTileQueries)), tile_tokens_(std::min(run.tokens, kTileQueries / tile_heads_)),
        head_tiles_((heads_ + tile_heads_ - 1) / tile_heads_),
        token_tiles_((run.tokens + tile_tokens_ - 1) / tile_tokens_) {}

  size_t count() const { return run_.rows * shape_.num_kv_heads * head_tiles_ * token_tiles_; }
  size_t queries() const { return tile_heads_ * tile_tokens_; }  // of a tile, at most

  // queries: the rotated ones, [rows, tokens, heads, head_dim].
  Tile make(size_t index, const float* queries) const {
    const size_t dim = shape_.head_dim, kv_heads = shape_.num_kv_heads;
    const size_t token_tile = index % token_tiles_, head_tile = index / token_tiles_ % head_tiles_;
    const size_t kv_head = index / token_tiles_ / head_tiles_ % kv_heads;
    const size_t row = index / token_tiles_ / head_tiles_ / kv_heads;
    const size_t base = (row * kv_heads + kv_head) * run_.capacity * dim;
    Tile tile;
    tile.keys = run_.keys + base;
    tile.values = run_.values + base;
    for (size_t t = token_tile * tile_tokens_; t < std::min(run_.tokens, (token_tile + 1) * tile_tokens_); ++t) {
      const size_t end = position(run_, row, t) + 1;
      const size_t first = shape_.window && end > shape_.window ? end - shape_.window : 0;
      for (size_t h = head_tile * tile_heads_; h < std::min(heads_, (head_tile + 1) * tile_heads_); ++h) {
        const size_t place = ((row * run_.tokens + t) * shape_.num_heads + kv_head * heads_ + h) * dim;
        tile.queries[tile.num_queries++] = {queries + place, first, end, -kInfinity, 0.0f, run_.output + place};
      }
    }
    return tile;
  }

 private:
  const AttentionShape& shape_;
  const AttentionRun& run_;
  size_t heads_, tile_heads_, tile_tokens_, head_tiles_, token_tiles_;
};

// Whole softmaxes of a tile, one partition after the other.
void attend_tile(const AttentionShape& shape, size_t capacity, Tile& tile) {
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

void attend(const AttentionShape& shape, const AttentionRun& run, const Parallel& parallel) {
  const size_t num_tokens = run.rows * run.tokens;
  if (!num_tokens) return;
  const size_t dim = shape.head_dim, width = shape.num_heads * dim;
  size_t longest = 0;
  for (size_t row = 0; row < run.rows; ++row) longest = std::max(longest, position(run, row, run.tokens));
  const size_t partitions = (longest + kPartition - 1) / kPartition;

  static thread_local std::vector<float> scratch;  // the workers see the caller's, by its address
  static thread_local std::vector<Partial> partial_scratch;
  constexpr size_t kEnoughTiles = 16;  // to keep the threads evenly busy without cutting along the keys
  const Tiles tiles(shape, run);
  const bool whole = tiles.count() >= kEnoughTiles || partitions == 1;
  const size_t num_partials = whole ? 0 : tiles.count() * partitions * tiles.queries();
  scratch.resize(num_tokens * width + num_partials * dim);
  partial_scratch.resize(num_partials);
  float* const rotated = scratch.data();
  float* const outputs = rotated + num_tokens * width;
  Partial* const partials = partial_scratch.data();

  parallel(num_tokens, std::max<size_t>(1, kPartWork / (4 * width)),
           [&](size_t first, size_t last) { take_in(shape, run, first, last, rotated); });

  const size_t tile_work = 2 * dim * std::min(longest, kPartition) * tiles.queries();
  const size_t grain = std::max<size_t>(1, kPartWork / tile_work);
  if (whole) {
    parallel(tiles.count(), grain, [&](size_t first, size_t last) {
      for (size_t index = first; index < last; ++index) {
        Tile tile = tiles.make(index, rotated);
        attend_tile(shape, run.capacity, tile);
      }
    });
    return;
  }
  parallel(tiles.count() * partitions, grain, [&](size_t first, size_t last) {
    for (size_t i = first; i < last; ++i) {
      const Tile tile = tiles.make(i / partitions, rotated);
      const size_t place = i * tiles.queries();
      attend_partition(shape, tile.keys, tile.values, run.capacity, i % partitions, tile.queries, tile.num_queries,
                       partials + place, outputs + place * dim);
    }
  });
  for (size_t index = 0; index < tiles.count(); ++index) {
    Tile tile = tiles.make(index, rotated);
    for (size_t q = 0; q < tile.num_queries; ++q) {
      std::memset(tile.queries[q].output, 0, dim * sizeof(float));
      for (size_t p = 0; p < partitions; ++p) {
        const size_t place = (index * partitions + p) * tiles.queries() + q;
        fold(dim, tile.queries[q], partials[place], outputs + place * dim);
      }
      finish(dim, tile.queries[q]);
    }
  }
}

}  // namespace infrs
