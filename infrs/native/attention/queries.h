// How attention splits its work: tiles of queries that read the same keys, and partitions of the keys.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include "attention.h"

namespace infrs {

constexpr size_t kPartition = 256;   // keys that share one softmax; the partitions are then merged in order
constexpr size_t kTileQueries = 48;  // queries that share a pass over the keys
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// One query: the keys that it attends to, and its softmax so far. An output is sum(weight * value) / sum. Weights are
// relative to `max`.
struct Query {
  const float* features;
  size_t first, end;  // keys [first, end)
  float max, sum;
  float* output;
};

// Returns the position of a token in its row.
template <typename Stored>
size_t position(const AttentionRun<Stored>& run, size_t row, size_t token) {
  return static_cast<size_t>(run.lengths[row]) + 1 - run.tokens + token;
}

// The keys or values of one row and head, and their scales.
template <typename Stored>
struct Block {
  Stored* numbers;  // [capacity, head_dim]
  float* scales;    // [capacity]; null: none
};

// stored: the keys or the values of a run.
template <typename Stored>
Block<Stored> block_of(const AttentionShape<Stored>& shape, const AttentionRun<Stored>& run, Stored* stored, size_t row,
                       size_t kv_head) {
  const size_t stride = run.slots * shape.head_dim * (sizeof(float) / sizeof(Stored));
  Stored* const numbers = stored + (row * shape.num_kv_heads + kv_head) * stride;
  return {numbers, kHasScales<Stored> ? reinterpret_cast<float*>(numbers + run.capacity * shape.head_dim) : nullptr};
}

// Some tokens of a row, with query heads that share one key head.
template <typename Stored>
struct Tile {
  Block<Stored> keys, values;
  Query queries[kTileQueries];
  size_t num_queries = 0;
};

// The queries of a run, split into tiles in which heads that share keys read them once.
template <typename Stored>
class Tiles {
 public:
  Tiles(const AttentionShape<Stored>& shape, const AttentionRun<Stored>& run)
      : shape_(shape), run_(run), heads_(shape.num_heads / shape.num_kv_heads),
        tile_heads_(std::min(heads_, kTileQueries)), tile_tokens_(std::min(run.tokens, kTileQueries / tile_heads_)),
        head_tiles_((heads_ + tile_heads_ - 1) / tile_heads_),
        token_tiles_((run.tokens + tile_tokens_ - 1) / tile_tokens_) {}

  size_t of_row() const { return shape_.num_kv_heads * head_tiles_ * token_tiles_; }
  size_t queries() const { return tile_heads_ * tile_tokens_; }  // maximum of a tile

  // Returns a tile of a row. The last tokens come first, because they attend to the most keys. queries: rotated,
  // [rows, tokens, heads, head_dim].
  Tile<Stored> make(size_t row, size_t index, const float* queries) const {
    const size_t dim = shape_.head_dim;
    const size_t token_tile = token_tiles_ - 1 - index % token_tiles_, head_tile = index / token_tiles_ % head_tiles_;
    const size_t kv_head = index / token_tiles_ / head_tiles_;
    Tile<Stored> tile;
    tile.keys = block_of(shape_, run_, run_.keys, row, kv_head);
    tile.values = block_of(shape_, run_, run_.values, row, kv_head);
    for (size_t t = token_tile * tile_tokens_; t < std::min(run_.tokens, (token_tile + 1) * tile_tokens_); ++t) {
      const size_t end = position(run_, row, t) + 1;
      const size_t first = shape_.window && end > shape_.window ? end - shape_.window : 0;
      for (size_t h = head_tile * tile_heads_; h < std::min(heads_, (head_tile + 1) * tile_heads_); ++h) {
        const size_t place = ((row * run_.tokens + t) * shape_.num_heads + kv_head * heads_ + h) * dim;
        const float* sink = run_.sinks ? run_.sinks + kv_head * heads_ + h : nullptr;  // its weight is exp(sink - max)
        tile.queries[tile.num_queries++] = {queries + place, first, end, sink ? *sink : -kInfinity, sink ? 1.0f : 0.0f,
                                            run_.output + place};
      }
    }
    return tile;
  }

 private:
  const AttentionShape<Stored>& shape_;
  const AttentionRun<Stored>& run_;
  size_t heads_, tile_heads_, tile_tokens_, head_tiles_, token_tiles_;
};

// The partitions that the tiles of a row read: `count` from `first` on. A unit of the work is a partition of a tile.
// The first one of this row is `start`.
struct RowUnits {
  size_t first, count, start;
};

// Returns the units of each row, and after them the end.
template <typename Stored>
void list_units(const AttentionShape<Stored>& shape, const AttentionRun<Stored>& run, size_t tiles,
                std::vector<RowUnits>& units) {
  units.clear();
  size_t start = 0;
  for (size_t row = 0; row < run.rows; ++row) {
    const size_t first_end = position(run, row, 0) + 1, end = position(run, row, run.tokens);
    const size_t first = shape.window && first_end > shape.window ? (first_end - shape.window) / kPartition : 0;
    const size_t count = (end + kPartition - 1) / kPartition - first;
    units.push_back({first, count, start});
    start += tiles * count;
  }
  units.push_back({0, 0, start});
}

}  // namespace infrs
