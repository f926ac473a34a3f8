#include "dense_packing.h"

#include <algorithm>
#include <cstring>

#include "../base/pack_threads.h"
#include "../base/transpose.h"

namespace infrs {
namespace {

// Packing reads a whole line of each column at a time: columns that are a power of two apart share a few places of the
// cache.
constexpr size_t kLine = 64, kWord = 4, kWordRow = kDenseColumns * kWord, kLineBytes = kLine / kWord * kWordRow;

// Packs a line of each of 32 columns, which begin `stride` bytes apart. A word has two weights if they have 16 bits.
// halves: the first weights of all columns come before the second ones.
template <bool halves>
void pack_line(const uint8_t* source, size_t stride, uint8_t* target) {
  for (size_t column = 0; column < kDenseColumns; column += 16) {
    for (size_t byte = 0; byte < kLine; byte += 16) {
      const uint8_t* const place = source + column * stride + byte;
      const Words first = read_words(place, stride), second = read_words(place + 8 * stride, stride);
      for (size_t word = 0; word < 4; ++word) {
        uint8_t* const row = target + (byte / kWord + word) * kWordRow;
        if (halves)
          store_halves(row + column * 2, kWordRow / 2, first.of[word], second.of[word]);
        else
          store_words(row + column * kWord, first.of[word], second.of[word]);
      }
    }
  }
}

}  // namespace

void pack_dense(const void* weights, WeightType type, size_t outputs, size_t inputs, const Parallel& parallel,
                uint8_t* target) {
  const auto* const source = static_cast<const uint8_t*>(weights);
  const auto pack = type == WeightType::kFloat16 ? pack_line<true> : pack_line<false>;
  const size_t stride = inputs * bytes_of(type), group_bytes = dense_group_bytes(type, inputs);
  const size_t groups = (outputs + kDenseColumns - 1) / kDenseColumns;
  parallel(groups, kPackGrain / (inputs * kDenseColumns), [&](size_t begin, size_t end) {
    for (size_t group = begin; group < end; ++group) {
      const uint8_t* const first = source + group * kDenseColumns * stride;
      const size_t columns = std::min(kDenseColumns, outputs - group * kDenseColumns);
      uint8_t* const packed = target + group * group_bytes;
      for (size_t byte = 0; byte < stride; byte += kLine) {
        const size_t bytes = std::min(kLine, stride - byte);
        alignas(64) uint8_t block[kLineBytes];
        if (columns == kDenseColumns && bytes == kLine) {
          pack(first + byte, stride, block);
        } else {
          uint8_t part[kDenseColumns * kLine] = {};
          for (size_t column = 0; column < columns; ++column)
            std::memcpy(part + column * kLine, first + column * stride + byte, bytes);
          pack(part, kLine, block);
        }
        const size_t place = byte / kLine * kLineBytes;
        stream(packed + place, block, std::min(kLineBytes, group_bytes - place));
      }
    }
    end_streams();
  });
}

}  // namespace infrs
