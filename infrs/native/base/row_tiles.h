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
  // A unit of the work is a tile and a group. Its number counts the chunks, then the groups, then the tiles, so a part
  // visits the groups one after the other, and the tiles of a chunk for each.
  template <typename Prepare, typename Multiply>
  void run(size_t inputs, size_t group_work, const Parallel& parallel, const Prepare& prepare,
           const Multiply& multiply) const {
    if (!count) return;
    parallel(count, kPartWork / (inputs * max_tile_rows), [&](size_t begin, size_t end) {
      for (size_t tile = begin; tile < end; ++tile) prepare(first_row(tile), first_row(tile + 1) - first_row(tile));
    });
    const size_t max_tiles = kRowChunk / max_tile_rows, chunks = (count + max_tiles - 1) / max_tiles;
    const size_t chunk_tiles = (count + chunks - 1) / chunks;  // as even as possible; the last chunk may have fewer
    parallel(count * groups, kPartWork * count / (group_work * rows), [&](size_t begin, size_t end) {
      for (size_t unit = begin; unit < end;) {
        const size_t first = unit / groups / chunk_tiles * chunk_tiles, tiles = std::min(chunk_tiles, count - first);
        const size_t place = unit - first * groups, group = place / tiles;
        const size_t stop = std::min(end, unit + tiles - place % tiles);
        bool ahead = group + 1 < groups;  // the first tile of a group prefetches the next group
        for (size_t tile = first + place % tiles; unit < stop; ++unit, ++tile, ahead = false)
          multiply(first_row(tile), first_row(tile + 1) - first_row(tile), group, ahead);
      }
    });
  }

  size_t rows, max_tile_rows, groups, count;
};

}  // namespace infrs
