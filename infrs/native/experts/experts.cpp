#include "experts.h"

#include <algorithm>
#include <vector>

#include "../base/row_tiles.h"
#include "../base/simd.h"

namespace infrs {
namespace {

constexpr size_t kChunkFloats = 1 << 24;  // limits the memory of the experts' outputs before they are added

// Rows that one call of the tile kernel multiplies with the same expert. A row has one place for each of its experts.
struct ExpertTile {
  size_t first, rows;
};

// Tiles of one expert. Their rows stay in the cache while the kernel reads the expert's weights once.
struct Segment {
  size_t expert, first, end;  // tiles [first, end)
};

// The rows of a run sorted by expert. A place is an index into this order.
struct Plan {
  std::vector<size_t> places;        // [rows, chosen]: the place of a row for each of its experts
  std::vector<size_t> rows;          // by place
  std::vector<size_t> ends;          // by expert: where its places end
  std::vector<ExpertTile> tiles;
  std::vector<Segment> segments;
  std::vector<size_t> segment_of;    // by tile

  // Sorts by counting, so the order of an expert's rows is that of the run.
  void make(const int64_t* indices, size_t num_rows, size_t chosen, size_t experts, size_t tile_rows) {
    const size_t count = num_rows * chosen;
    ends.assign(experts + 1, 0);
    for (size_t i = 0; i < count; ++i) ++ends[indices[i] + 1];
    for (size_t expert = 0; expert < experts; ++expert) ends[expert + 1] += ends[expert];
    places.resize(count);
    rows.resize(count);
    for (size_t i = 0; i < count; ++i) {  // `ends` holds where the next row of each expert goes
      places[i] = ends[indices[i]]++;
      rows[places[i]] = i / chosen;
    }
    tiles.clear();
    segments.clear();
    segment_of.clear();
    for (size_t expert = 0, first = 0; expert < experts; first = ends[expert++])
      add(expert, first, ends[expert] - first, tile_rows);
  }

 private:
  void add(size_t expert, size_t first, size_t count, size_t tile_rows) {
    const size_t num_tiles = (count + tile_rows - 1) / tile_rows, segment_tiles = kRowChunk / tile_rows;
    for (size_t tile = 0; tile < num_tiles; ++tile) {
      if (tile % segment_tiles == 0) {
        const size_t next = tiles.size();
        segments.push_back({expert, next, next + std::min(segment_tiles, num_tiles - tile)});
      }
      const size_t begin = count * tile / num_tiles, end = count * (tile + 1) / num_tiles;
      tiles.push_back({first + begin, end - begin});
      segment_of.push_back(segments.size() - 1);
    }
  }
};

// Multiplies all tiles of a plan with the matrices of their experts, and hands each result to
// `finish(tile, expert, group, out)`: the products of its rows [rows, 16] with a group of the expert's columns.
template <typename Finish>
void multiply(const PackedMatrix& matrix, size_t experts, const RoundedRows& rounded, const Plan& plan,
              const Parallel& parallel, const Finish& finish) {
  const size_t groups = matrix.groups() / experts;
  const size_t unit_work = matrix.inputs() * kColumns * plan.rows.size() / plan.tiles.size();
  // A unit is a tile and a group of columns. Its number counts the segments, then the groups, then the tiles.
  parallel(plan.tiles.size() * groups, kPartWork / unit_work, [&](size_t first, size_t last) {
    float out[kMaxTileRows][kColumns];
    for (size_t unit = first; unit < last;) {
      const size_t index = plan.segment_of[unit / groups];
      const Segment& segment = plan.segments[index];
      const size_t tiles = segment.end - segment.first, place = unit - segment.first * groups;
      const size_t group = place / tiles, matrix_group = segment.expert * groups + group;
      const size_t end = std::min(last, unit + tiles - place % tiles);
      size_t ahead = 0;  // where the weights of the next unit are
      if (end < last) {
        const bool same = group + 1 < groups;
        const size_t next = same ? matrix_group + 1 : plan.segments[index + 1].expert * groups;
        if (next > matrix_group) ahead = (next - matrix_group) * matrix.group_bytes();
      }
      for (size_t tile = segment.first + place % tiles; unit < end; ++unit, ++tile, ahead = 0) {
        const RoundedTile input = rounded.tile(plan.tiles[tile].first, plan.tiles[tile].rows);
        matrix.multiply_tile(input, matrix_group, ahead, out);
        for (size_t r = 0; r < input.rows; ++r) {
          const __m256 factor = _mm256_set1_ps(matrix.factor(input, r));
          for (size_t i = 0; i < kColumns; i += kLanes)
            _mm256_storeu_ps(out[r] + i, _mm256_mul_ps(_mm256_loadu_ps(out[r] + i), factor));
        }
        finish(plan.tiles[tile], segment.expert, group, out);
      }
    }
  });
}

// Adds a bias of sixteen columns to the rows of a tile. bias may be null.
void add_bias(const float* bias, size_t rows, float (*out)[kColumns]) {
  if (!bias) return;
  for (size_t r = 0; r < rows; ++r)
    for (size_t i = 0; i < kColumns; i += kLanes)
      _mm256_storeu_ps(out[r] + i, _mm256_add_ps(_mm256_loadu_ps(out[r] + i), _mm256_loadu_ps(bias + i)));
}

// Returns the activations of eight pairs of gate and up. NaN stays NaN: minimum and maximum return their second operand
// if either is NaN.
__m256 activate(const Gate& activation, const float* pairs) {
  const __m256 low = _mm256_loadu_ps(pairs), high = _mm256_loadu_ps(pairs + kLanes), one = _mm256_set1_ps(1.0f);
  __m256 gate = _mm256_shuffle_ps(low, high, 0x88), up = _mm256_shuffle_ps(low, high, 0xdd);
  if (activation.limit > 0) {
    const __m256 limit = _mm256_set1_ps(activation.limit);
    gate = _mm256_min_ps(limit, gate);
    up = _mm256_min_ps(limit, _mm256_max_ps(_mm256_set1_ps(-activation.limit), up));
  }
  __m256 slope = gate;
  if (activation.cubic != 0) {
    const __m256 square = _mm256_mul_ps(gate, gate);
    slope = _mm256_mul_ps(gate, _mm256_fmadd_ps(_mm256_set1_ps(activation.cubic), square, one));
  }
  const __m256 exponent = _mm256_mul_ps(_mm256_set1_ps(-activation.alpha), slope);
  const __m256 opened = _mm256_mul_ps(gate, sigmoid_of_negative(exponent));
  const __m256 y = _mm256_mul_ps(opened, _mm256_add_ps(up, _mm256_set1_ps(activation.beta)));
  // A shuffle keeps the halves of its operands apart; this puts the pairs back into their order.
  return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(y), 0xd8));
}

// Computes output [width] = sum(weights[j] * outputs[places[j]]) in the order of j.
void add_experts(const float* outputs, const float* weights, const size_t* places, size_t chosen, size_t width,
                 float* output) {
  for (size_t j = 0; j < chosen; ++j) {
    const __m256 weight = _mm256_set1_ps(weights[j]);
    const float* source = outputs + places[j] * width;
    for (size_t i = 0; i < width; i += kLanes) {
      const __m256 added = _mm256_mul_ps(weight, _mm256_loadu_ps(source + i));
      _mm256_storeu_ps(output + i, j ? _mm256_add_ps(_mm256_loadu_ps(output + i), added) : added);
    }
  }
}

// What a run needs besides its inputs and outputs.
struct Buffers {
  Plan plan;
  RoundedRows rows, inputs, inner;     // by row, by place, and the activations by place
  std::vector<float> activations, outputs;  // [places, inner] and [places, width]
};

}  // namespace

void Experts::compute(const ExpertsRun& run, const Parallel& parallel) const {
  const size_t width = gate_up_.inputs(), inner = down_.inputs(), chosen = run.chosen;
  const size_t most = std::max<size_t>(1, kChunkFloats / (chosen * width));
  if (run.rows > most) {
    for (size_t first = 0; first < run.rows; first += most) {
      ExpertsRun part = run;
      part.rows = std::min(most, run.rows - first);
      part.x += first * width;
      part.weights += first * chosen;
      part.indices += first * chosen;
      part.output += first * width;
      compute(part, parallel);
    }
    return;
  }
  if (!run.rows) return;
  static thread_local Buffers own;
  Buffers& buffers = own;  // workers use those of the calling thread, not their own
  const size_t places = run.rows * chosen, tile_rows = std::min(gate_up_.max_tile_rows(), down_.max_tile_rows());
  buffers.plan.make(run.indices, run.rows, chosen, experts_, tile_rows);
  buffers.rows.resize(gate_up_.form(), run.rows);
  buffers.inputs.resize(gate_up_.form(), places);
  buffers.inner.resize(down_.form(), places);
  buffers.activations.resize(places * inner);
  buffers.outputs.resize(places * width);
  const Plan& plan = buffers.plan;
  float *const activations = buffers.activations.data(), *const outputs = buffers.outputs.data();

  parallel(run.rows, kPartWork / width, [&](size_t first, size_t last) {
    for (size_t row = first; row < last; ++row) buffers.rows.round(run.x + row * width, row, 1);
  });
  // Calls `work` for each tile. inputs: of a row, which give the time that it takes.
  const auto each_tile = [&](size_t inputs, const auto& work) {
    parallel(plan.tiles.size(), kPartWork * plan.tiles.size() / (inputs * places), [&](size_t first, size_t last) {
      for (size_t tile = first; tile < last; ++tile) work(plan.tiles[tile]);
    });
  };
  each_tile(width, [&](const ExpertTile& tile) {
    buffers.inputs.gather(buffers.rows, plan.rows.data() + tile.first, tile.first, tile.rows);
  });
  multiply(gate_up_, experts_, buffers.inputs, plan, parallel,
           [&](const ExpertTile& tile, size_t expert, size_t group, float (*out)[kColumns]) {
             const size_t column = group * kColumns;
             add_bias(run.gate_up_bias ? run.gate_up_bias + expert * 2 * inner + column : nullptr, tile.rows, out);
             for (size_t r = 0; r < tile.rows; ++r)
               _mm256_storeu_ps(activations + (tile.first + r) * inner + column / 2, activate(activation_, out[r]));
           });
  each_tile(inner, [&](const ExpertTile& tile) {
    buffers.inner.round(activations + tile.first * inner, tile.first, tile.rows);
  });
  multiply(down_, experts_, buffers.inner, plan, parallel,
           [&](const ExpertTile& tile, size_t expert, size_t group, float (*out)[kColumns]) {
             const size_t column = group * kColumns;
             add_bias(run.down_bias ? run.down_bias + expert * width + column : nullptr, tile.rows, out);
             for (size_t r = 0; r < tile.rows; ++r)
               std::copy_n(out[r], kColumns, outputs + (tile.first + r) * width + column);
           });
  parallel(run.rows, kPartWork / (chosen * width), [&](size_t first, size_t last) {
    for (size_t row = first; row < last; ++row)
      add_experts(outputs, run.weights + row * chosen, plan.places.data() + row * chosen, chosen, width,
                  run.output + row * width);
  });
}

}  // namespace infrs
