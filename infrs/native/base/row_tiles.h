// The order in which a product visits its rows and columns: tiles of a few rows, and groups of columns.
#pragma once

#include <algorithm>
#include <cstddef>

#include "parallel.h"

namespace infrs {

constexpr size_t kRowChunk = 48;       // the prepared inputs of so many rows stay in the L2 cache
constexpr size_t kPartWork = 1 << 15;  // multiply-adds that pay for waking a thread

// A product of `rows` rows with `groups` groups of columns.
struct RowTiles {
  RowTiles(size_t rows, size_t max_tile_rows, size_t groups)
      : rows(rows), max_tile_rows(max_tile_rows), groups(groups), count((rows + max_tile_rows - 1) / max_tile_rows) {}

  size_t first_row(size_t tile) const { return rows * tile / count; }

  // Calls `prepare(row, rows)` for each tile, and then `multiply(row, rows, group, ahead)` for each tile and group.
  // group_work: multiply-adds of a row and a group. ahead: the next group follows, so its weights can be prefetched.
  // A part of the work visits the groups one after the other, and all tiles of a chunk for each.
  template <typename Prepare, typename Multiply>
  void run(size_t inputs, size_t group_work, const Parallel& parallel, const Prepare& prepare,
           const Multiply& multiply) const {
    if (!count) return;
    parallel(count, kPartWork / (inputs * max_tile_rows), [&](size_t begin, size_t end) {
      for (size_t tile = begin; tile < end; ++tile) prepare(first_row(tile), first_row(tile + 1) - first_row(tile));
    });
    const size_t chunk_tiles = kRowChunk / max_tile_rows, chunks = (count + chunk_tiles - 1) / chunk_tiles;
    const size_t item_work = group_work * std::min(rows, kRowChunk);
    parallel(chunks * groups, kPartWork / item_work, [&](size_t begin, size_t end) {
      for (size_t item = begin; item < end; ++item) {
        const size_t group = item % groups, first = item / groups * chunk_tiles;
        for (size_t tile = first; tile < std::min(count, first + chunk_tiles); ++tile) {
          const size_t row = first_row(tile);
          multiply(row, first_row(tile + 1) - row, group, tile == first && group + 1 < groups);
        }
      }
    });
  }

  size_t rows, max_tile_rows, groups, count;
};

}  // namespace infrs
