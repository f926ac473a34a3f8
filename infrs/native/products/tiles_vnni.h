// The tiles of tiles_vnni.cpp, which includes this file once for each encoding of the instructions:
// INFRS_DOT_BYTES(sum, weights, inputs) and INFRS_DOT_WORDS(sum, weights, inputs).

// Few rows use several sums each. With one sum each, every addition would wait for the one before.
template <size_t R>
constexpr size_t kSums = R == 1 ? 4 : R <= 3 ? 2 : 1;

// The sums of a block: of the left and the right eight outputs of each row.
template <size_t R>
using Sums = __m256i[R][kSums<R>][2];

inline __m256i broadcast_32_bits(const void* address) {
  int32_t bits;
  std::memcpy(&bits, address, sizeof bits);
  return _mm256_set1_epi32(bits);
}

inline __m256i read_32_bytes(const uint8_t* address) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(address));
}

inline __m256i widened(const uint8_t* address) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(address)));
}

inline __m256 half_lanes(const uint8_t* address) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(address)));
}

inline void prefetch(const uint8_t* weights) { _mm_prefetch(reinterpret_cast<const char*>(weights), _MM_HINT_T0); }

// Prevents the compiler from loading the inputs of all rows first, which spills the sums.
inline void keep_in_registers(__m256i (&sum)[2]) { asm("" : "+x"(sum[0]), "+x"(sum[1])); }

template <size_t N>
inline __m256i added(const __m256i (&sums)[N][2], size_t side) {
  __m256i total = sums[0][side];
  INFRS_UNROLL_ALL
  for (size_t i = 1; i < N; ++i) total = _mm256_add_epi32(total, sums[i][side]);
  return total;
}

// The totals are in memory, because the registers hold the sums of a block.
inline void add_scaled(float* total, __m256i sum, __m256 scale) {
  _mm256_storeu_ps(total, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, _mm256_loadu_ps(total)));
}

// Sixteen outputs of R rows with 8-bit weights and 16-bit inputs.
template <size_t R>
void tile_words(const TileInput& input, float (*y)[kColumns]) {
  const size_t ahead = input.ahead;
  const uint8_t* weights = input.weights;
  const uint8_t* words = input.words;
  std::memset(y, 0, R * sizeof *y);
  for (size_t block = 0; block < input.blocks; ++block) {
    const uint8_t* scales = weights;
    weights += kScaleBytes;
    Sums<R> sum = {};
    INFRS_UNROLL_ALL
    for (size_t pair = 0; pair < kBlock / 2; ++pair, weights += 2 * kColumns, words += 4 * R) {
      if (pair % 2 == 0) prefetch(weights + ahead);
      const __m256i left = widened(weights), right = widened(weights + kColumns);
      INFRS_UNROLL_ALL
      for (size_t r = 0; r < R; ++r) {
        __m256i(&into)[2] = sum[r][pair % kSums<R>];
        const __m256i inputs = broadcast_32_bits(words + 4 * r);
        into[0] = INFRS_DOT_WORDS(into[0], left, inputs);
        into[1] = INFRS_DOT_WORDS(into[1], right, inputs);
        keep_in_registers(into);
      }
    }
    const __m256 left_scale = half_lanes(scales), right_scale = half_lanes(scales + kScaleBytes / 2);
    INFRS_UNROLL_ALL
    for (size_t r = 0; r < R; ++r) {
      add_scaled(y[r], added(sum[r], 0), left_scale);
      add_scaled(y[r] + kColumns / 2, added(sum[r], 1), right_scale);
    }
  }
}

template <size_t R>
inline void multiply_bytes(Sums<R>& sum, __m256i left, __m256i right, const uint8_t* words, size_t step) {
  INFRS_UNROLL_ALL
  for (size_t r = 0; r < R; ++r) {
    __m256i(&into)[2] = sum[r][step % kSums<R>];
    const __m256i inputs = broadcast_32_bits(words + 4 * r);
    into[0] = INFRS_DOT_BYTES(into[0], left, inputs);
    into[1] = INFRS_DOT_BYTES(into[1], right, inputs);
    keep_in_registers(into);
  }
}

// Returns two copies of 16 levels.
inline __m256i twice(const uint8_t* address) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(address)));
}

// Returns the weights of numbers of four bits.
template <Weights W>
inline __m256i weights_of(__m256i numbers, __m256i levels) {
  return W == Weights::kLevels ? _mm256_shuffle_epi8(levels, numbers) : numbers;
}

// Sixteen outputs of R rows with unsigned weights and 8-bit inputs. The sums of a block begin with `starts`, so the
// weights need no correction for their zero level.
template <size_t R, Weights W>
void tile_bytes(const TileInput& input, float (*y)[kColumns]) {
  const size_t ahead = input.ahead;
  const uint8_t* weights = input.weights;
  const uint8_t* words = input.words;
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i levels = W == Weights::kLevels ? twice(input.levels) : nibble;
  std::memset(y, 0, R * sizeof *y);
  for (size_t block = 0; block < input.blocks; ++block) {
    const uint8_t* scales = weights;
    weights += kScaleBytes;
    Sums<R> sum = {};
    INFRS_UNROLL_ALL
    for (size_t r = 0; r < R; ++r) sum[r][0][0] = sum[r][0][1] = _mm256_set1_epi32(input.starts[block * R + r]);
    INFRS_UNROLL_ALL
    for (size_t step = 0; step < kBlock / 4; step += W == Weights::kBytes ? 1 : 2, weights += 4 * kColumns) {
      prefetch(weights + ahead);
      const __m256i left = read_32_bytes(weights), right = read_32_bytes(weights + 2 * kColumns);
      if constexpr (W == Weights::kBytes) {
        multiply_bytes<R>(sum, left, right, words, step);
        words += 4 * R;
      } else {
        const __m256i low[2] = {_mm256_and_si256(left, nibble), _mm256_and_si256(right, nibble)};
        const __m256i high[2] = {_mm256_and_si256(_mm256_srli_epi16(left, 4), nibble),
                                 _mm256_and_si256(_mm256_srli_epi16(right, 4), nibble)};
        multiply_bytes<R>(sum, weights_of<W>(low[0], levels), weights_of<W>(low[1], levels), words, step);
        multiply_bytes<R>(sum, weights_of<W>(high[0], levels), weights_of<W>(high[1], levels), words + 4 * R, step + 1);
        words += 8 * R;
      }
    }
    const __m256 left_scale = half_lanes(scales), right_scale = half_lanes(scales + kScaleBytes / 2);
    INFRS_UNROLL_ALL
    for (size_t r = 0; r < R; ++r) {
      const __m256 scale = _mm256_set1_ps(input.scales[block * R + r]);
      add_scaled(y[r], added(sum[r], 0), _mm256_mul_ps(left_scale, scale));
      add_scaled(y[r] + kColumns / 2, added(sum[r], 1), _mm256_mul_ps(right_scale, scale));
    }
  }
}

template <size_t... R>
TileKernel kernel(Weights weights, bool wide, std::index_sequence<R...>) {
  static constexpr Tile words[] = {tile_words<R + 1>...};
  static constexpr Tile tiles[][sizeof...(R)] = {{tile_bytes<R + 1, Weights::kBytes>...},
                                                 {tile_bytes<R + 1, Weights::kNibbles>...},
                                                 {tile_bytes<R + 1, Weights::kLevels>...},
                                                 {tile_bytes<R + 1, Weights::kLevels>...}};
  wide = wide && weights == Weights::kBytes;
  return {sizeof...(R), wide ? words : tiles[static_cast<size_t>(weights)], wide};
}
