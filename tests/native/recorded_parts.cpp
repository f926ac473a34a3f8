// Runs the kernels' ways to split their work with a launcher that counts the work of each part instead of threads that
// do it. Reads one case per line:
//   ranges ITEMS GRAIN THREADS                   prints the ranges, as FIRST LAST FIRST LAST ...
//   product ROWS TILE_ROWS INPUTS OUTPUTS GROUP_COLUMNS THREADS
//   attention TOKENS HEADS KEY_HEADS DIM WINDOW THREADS LENGTH...    one length, with the new tokens, for each row
// For the last two it prints the work, the time that the threads need for it, and the number of regions. A unit of time
// does a unit of work, a multiply-add. As in ONNX Runtime's pool, a thread that is free takes the next part.
#include <cstdlib>
#include <functional>
#include <iostream>
#include <queue>
#include <sstream>
#include <string>
#include <vector>

#include "attention/attention.h"
#include "base/parallel.h"
#include "base/row_tiles.h"

namespace {

using namespace infrs;

size_t work = 0;  // done so far

struct Recorder {
  size_t threads;
  size_t saved = 0, regions = 0;  // work that other threads do meanwhile

  Parallel parallel() {
    return {[](void* pool, void (*run)(void*, size_t), size_t parts, void* data) {
              static_cast<Recorder*>(pool)->record(run, parts, data);
            },
            this, threads};
  }

  void record(void (*run)(void*, size_t), size_t parts, void* data) {
    std::priority_queue<size_t, std::vector<size_t>, std::greater<size_t>> ends;  // when each thread is free
    for (size_t thread = 0; thread < threads; ++thread) ends.push(0);
    const size_t before = work;
    size_t last = 0;
    for (size_t part = 0; part < parts; ++part) {
      const size_t start = work;
      run(data, part);
      const size_t end = ends.top() + (work - start);
      ends.pop();
      ends.push(end);
      last = std::max(last, end);
    }
    saved += work - before - last;
    ++regions;
  }
};

void print_ranges(std::istream& in) {
  size_t items, grain, threads;
  in >> items >> grain >> threads;
  Recorder recorder{threads};
  recorder.parallel()(items, grain, [](size_t first, size_t last) { std::cout << first << ' ' << last << ' '; });
  std::cout << '\n';
}

void print(const Recorder& recorder) {
  std::cout << work << ' ' << work - recorder.saved << ' ' << recorder.regions << '\n';
}

void multiply(std::istream& in) {
  size_t rows, tile_rows, inputs, outputs, columns, threads;
  in >> rows >> tile_rows >> inputs >> outputs >> columns >> threads;
  Recorder recorder{threads};
  const size_t groups = (outputs + columns - 1) / columns;
  RowTiles(rows, tile_rows, groups)
      .run(
          inputs, inputs * columns, recorder.parallel(), [&](size_t, size_t count) { work += count * inputs; },
          [&](size_t, size_t count, size_t, bool) { work += count * inputs * columns; });
  print(recorder);
}

template <size_t Queries>
void count_dots(size_t dim, const float* const*, const float* const*, float* const* scores) {
  work += Queries * dim * kScoreKeys;
  for (size_t query = 0; query < Queries; ++query) std::fill_n(scores[query], kScoreKeys, 0.0f);
}

template <size_t Queries>
void count_values(size_t dim, const float*, const float* const*, size_t count, float* const*) {
  work += Queries * dim * count;
}

void attention(std::istream& in) {
  static const Dots<float> dots[] = {count_dots<1>, count_dots<2>, count_dots<3>, count_dots<4>};
  static const AddValues<float> values[] = {count_values<1>, count_values<2>, count_values<3>, count_values<4>};
  const AttentionLoops<float> loops{4, dots, values, [](float*, size_t) { return Partial{0.0f, 1.0f}; }};
  size_t tokens, heads, key_heads, dim, window, threads;
  in >> tokens >> heads >> key_heads >> dim >> window >> threads;
  std::vector<int32_t> lengths;
  int32_t longest = 0;
  for (int32_t length; in >> length; longest = std::max(longest, length)) lengths.push_back(length - 1);
  const size_t rows = lengths.size(), capacity = (longest + 7) / 8 * 8;
  const std::vector<float> fresh(rows * tokens * (heads + 2 * key_heads) * dim);
  std::vector<float> output(rows * tokens * heads * dim);
  // Not a vector: only the pages that are written need memory.
  auto* const past = static_cast<float*>(std::calloc(2 * rows * key_heads * capacity * dim, sizeof(float)));

  AttentionRun<float> run{};
  run.rows = rows;
  run.tokens = tokens;
  run.capacity = capacity;
  run.query = fresh.data();
  run.key = run.query + heads * dim;
  run.value = run.key + key_heads * dim;
  run.query_stride = run.key_stride = (heads + 2 * key_heads) * dim;
  run.keys = past;
  run.values = past + rows * key_heads * capacity * dim;
  run.lengths = lengths.data();
  run.output = output.data();
  Recorder recorder{threads};
  attend({heads, key_heads, dim, 1.0f, 0.0f, window, false, loops, loops}, run, recorder.parallel());
  std::free(past);
  print(recorder);
}

}  // namespace

int main() {
  for (std::string line, kind; std::getline(std::cin, line);) {
    std::istringstream in(line);
    in >> kind;
    work = 0;
    (kind == "ranges" ? print_ranges : kind == "product" ? multiply : attention)(in);
  }
}
