#include "buckets.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "logarithm.h"

namespace infrs {
namespace {

constexpr size_t kBlock = 256;
constexpr size_t kTables = 4;  // equal places would wait for each other's addition to one table
constexpr size_t kPlacesOfAll = Buckets::kCount + kLanes;  // with that of ids which are not candidates
constexpr double kLeastNormal = -87;  // a logarithm; weights below it are inexact

inline __m256 load(const float* numbers, size_t count) {
  if (count >= kLanes) return _mm256_loadu_ps(numbers);
  float lanes[kLanes] = {};
  std::memcpy(lanes, numbers, count * sizeof(float));
  return _mm256_loadu_ps(lanes);
}

inline __m256 positive(__m256 numbers) { return _mm256_cmp_ps(numbers, _mm256_setzero_ps(), _CMP_GT_OQ); }

// Returns numbers that ascend from the largest logit to the least.
inline __m256i descending(__m256 logits) {
  const __m256i bits = _mm256_castps_si256(_mm256_add_ps(logits, _mm256_setzero_ps()));  // without a negative zero
  return _mm256_xor_si256(bits, _mm256_andnot_si256(_mm256_srai_epi32(bits, 31), _mm256_set1_epi32(0x7fffffff)));
}

// For what is no candidate.
inline __m256i no_places() {
  return _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(Buckets::kCount));
}

// How far the logarithm of a weight may be from the logit by which it is computed in float32.
inline double margin(double logarithm) { return 1e-6 * (1 + std::fabs(logarithm)); }

}  // namespace

Buckets::Buckets(BucketMemory& memory, const float* logits, const float* weights, size_t count, double temperature,
                 bool counts, bool logarithms)
    : memory_(memory), logits_(logits), weights_(weights), count_(count), places_(memory.places.take(count + kBlock)),
      has_logarithms_(logarithms) {
  opened_.reserve(BucketMemory::kOpened);
  const __m256 no_logit = _mm256_set1_ps(std::numeric_limits<float>::infinity());
  __m256 most = _mm256_xor_ps(no_logit, _mm256_set1_ps(-0.0f)), least = no_logit;
  for (size_t i = 0; i < count; i += kLanes) {
    const __m256 is_in = positive(load(weights + i, count - i)), here = load(logits + i, count - i);
    most = _mm256_max_ps(most, _mm256_blendv_ps(most, here, is_in));
    least = _mm256_min_ps(least, _mm256_blendv_ps(least, here, is_in));
  }
  float lanes[kLanes];
  _mm256_storeu_ps(lanes, least);
  top_ = max_lane(most);
  const float range = top_ - *std::min_element(lanes, lanes + kLanes);
  if (range > 1e-30f) scale_ = static_cast<float>(kCount) / range;
  width_ = (scale_ > 0 ? 1 / static_cast<double>(scale_) : 1e-30) / temperature;
  if (counts)
    logarithms ? add_up<true, true>() : add_up<true, false>();
  else
    logarithms ? add_up<false, true>() : add_up<false, false>();
}

// Returns the buckets of eight candidates; kCount or more for what is no candidate.
inline __m256i Buckets::places_of(size_t i, __m256 weights) const {
  const __m256 below = _mm256_sub_ps(_mm256_set1_ps(top_), load(logits_ + i, count_ - i));
  const __m256 last = _mm256_set1_ps(static_cast<float>(kCount - 1));  // what the minimum with NaN is
  const __m256i places = _mm256_cvttps_epi32(_mm256_min_ps(_mm256_mul_ps(below, _mm256_set1_ps(scale_)), last));
  return _mm256_blendv_epi8(no_places(), places, _mm256_castps_si256(positive(weights)));
}

template <bool kCounts, bool kLogarithms>
void Buckets::add_up() {
  constexpr size_t kSums = kLogarithms ? 2 : 1;
  double* const sums = memory_.tables.take(kTables * kPlacesOfAll * (kSums + 1));
  double* const counts = sums + kTables * kPlacesOfAll * kSums;
  std::fill_n(sums, kTables * kPlacesOfAll * (kSums + 1), 0.0);
  alignas(32) double added[kBlock][kSums];
  for (size_t block = 0; block < count_; block += kBlock) {
    uint16_t* const places = places_ + block;
    for (size_t i = 0; i < kBlock; i += kLanes) {
      const size_t first = block + i;
      const __m256 weights = first < count_ ? load(weights_ + first, count_ - first) : _mm256_setzero_ps();
      const __m256i here = first < count_ ? places_of(first, weights) : no_places();
      _mm_storeu_si128(reinterpret_cast<__m128i*>(places + i),
                       _mm_packus_epi32(_mm256_castsi256_si128(here), _mm256_extracti128_si256(here, 1)));
      const __m128 halves[] = {_mm256_castps256_ps128(weights), _mm256_extractf128_ps(weights, 1)};
      for (size_t half = 0; half < 2; ++half) {
        double* const to = added[i + 4 * half];
        const __m256d mass = _mm256_cvtps_pd(halves[half]);
        if constexpr (kLogarithms) {
          const __m256d weighted = _mm256_mul_pd(mass, log_lanes(halves[half]));
          const __m256d even = _mm256_unpacklo_pd(mass, weighted), odd = _mm256_unpackhi_pd(mass, weighted);
          _mm256_store_pd(to, _mm256_permute2f128_pd(even, odd, 0x20));
          _mm256_store_pd(to + 4, _mm256_permute2f128_pd(even, odd, 0x31));
        } else {
          _mm256_store_pd(to, mass);
        }
      }
    }
    for (size_t i = 0; i < kBlock; i += kTables) {
      INFRS_UNROLL
      for (size_t table = 0; table < kTables; ++table) {
        const size_t place = table * kPlacesOfAll + places[i + table];
        double* const sum = sums + place * kSums;
        if constexpr (kLogarithms)
          _mm_storeu_pd(sum, _mm_add_pd(_mm_loadu_pd(sum), _mm_load_pd(added[i + table])));
        else
          *sum += *added[i + table];
        if constexpr (kCounts) counts[place] += 1;
      }
    }
  }
  for (size_t bucket = 0; bucket < kCount; ++bucket) {
    Bucket& filled = buckets_[bucket] = {State::kClosed, static_cast<uint16_t>(bucket), 0, 0, 0, 0};
    for (size_t table = 0; table < kTables; ++table) {
      const size_t place = table * kPlacesOfAll + bucket;
      filled.mass += sums[place * kSums];
      filled.logarithms += kLogarithms ? sums[place * kSums + kSums - 1] : 0;
      filled.count += counts[place];
    }
    if (filled.mass == 0) filled.state = State::kEmpty;
  }
}

double Buckets::highest(size_t bucket) const {
  const double logarithm = std::max(-width_ * static_cast<double>(bucket), kLeastNormal);
  return logarithm + margin(logarithm);
}

double Buckets::lowest(size_t bucket) const {
  const double logarithm = -width_ * (buckets_[bucket].last + 1.0);
  return logarithm < kLeastNormal ? -std::numeric_limits<double>::infinity() : logarithm - margin(logarithm);
}

void Buckets::collect(size_t first, size_t last, Members& to) const {
  const __m256i least = _mm256_set1_epi16(static_cast<int16_t>(first));
  const __m256i width = _mm256_set1_epi16(static_cast<int16_t>(last - first));
  const Places& orders = places();
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  for (size_t i = 0; i < count_; i += 2 * kLanes) {
    const __m256i here = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(places_ + i));
    const __m256i distance = _mm256_sub_epi16(here, least);
    const __m256i is_in = _mm256_cmpeq_epi16(_mm256_min_epu16(distance, width), distance);
    if (_mm256_testz_si256(is_in, is_in)) continue;
    const auto set = static_cast<unsigned>(_mm_movemask_epi8(
        _mm_packs_epi16(_mm256_castsi256_si128(is_in), _mm256_extracti128_si256(is_in, 1))));
    for (size_t half = 0; half < 2; ++half) {
      const unsigned in_half = set >> half * kLanes & ((1u << kLanes) - 1);
      const size_t from = i + half * kLanes;
      if (from >= count_) break;
      const __m256i order = orders.first(in_half);
      const __m256i ranks = descending(load(logits_ + from, count_ - from));
      const __m256 masses = load(weights_ + from, count_ - from);
      const __m256i ids = _mm256_add_epi32(_mm256_set1_epi32(static_cast<int>(from)), lanes);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to.ranks + to.count), _mm256_permutevar8x32_epi32(ranks, order));
      _mm256_storeu_ps(to.masses + to.count, _mm256_permutevar8x32_ps(masses, order));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to.ids + to.count), _mm256_permutevar8x32_epi32(ids, order));
      to.count += static_cast<size_t>(__builtin_popcount(in_half));
    }
  }
}

Members& Buckets::open(size_t first, size_t last) {
  if (first == last && buckets_[first].state == State::kOpen) return members(first);
  Bucket merged{State::kOpen, buckets_[last].last, static_cast<uint16_t>(opened_.size()), 0, 0, 0};
  for (size_t bucket = first; bucket <= last; ++bucket) {
    merged.mass += buckets_[bucket].mass;
    merged.logarithms += buckets_[bucket].logarithms;
  }
  auto& arrays = memory_.opened[opened_.size()];
  opened_.push_back({arrays.ranks.take(count_), arrays.ids.take(count_), arrays.masses.take(count_), 0});
  Members& all = opened_.back();
  for (size_t bucket = first; bucket <= last; ++bucket) {
    if (buckets_[bucket].state == State::kClosed) {
      size_t closed = bucket;
      while (closed < last && buckets_[closed + 1].state == State::kClosed) ++closed;
      collect(bucket, closed, all);
      bucket = closed;
    } else if (buckets_[bucket].state == State::kOpen) {
      const Members& some = members(bucket);
      std::copy_n(some.ranks, some.count, all.ranks + all.count);
      std::copy_n(some.masses, some.count, all.masses + all.count);
      std::copy_n(some.ids, some.count, all.ids + all.count);
      all.count += some.count;
    }
  }
  for (size_t bucket = first; bucket <= last; ++bucket) empty(bucket);
  buckets_[first] = merged;
  return all;
}

void Buckets::update(size_t bucket) {
  const Members& some = members(bucket);
  if (some.count == 0) return empty(bucket);
  if (some.row().is_same()) {
    const double mass = some.masses[0], all = mass * static_cast<double>(some.count);
    buckets_[bucket].mass = all;
    buckets_[bucket].logarithms = all * std::log(mass);
    return;
  }
  __m256d masses[2] = {}, logarithms = _mm256_setzero_pd();
  for (size_t i = 0; i < some.count; i += kLanes) {
    const __m256 lanes = load(some.masses + i, some.count - i);
    const __m128 halves[] = {_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1)};
    for (size_t half = 0; half < 2; ++half) {
      const __m256d mass = _mm256_cvtps_pd(halves[half]);
      masses[half] = _mm256_add_pd(masses[half], mass);
      if (has_logarithms_) logarithms = _mm256_fmadd_pd(mass, log_lanes(halves[half]), logarithms);
    }
  }
  buckets_[bucket].mass = sum_lanes(_mm256_add_pd(masses[0], masses[1]));
  buckets_[bucket].logarithms = sum_lanes(logarithms);
}

void Buckets::empty(size_t bucket) {
  buckets_[bucket] = {State::kEmpty, static_cast<uint16_t>(bucket), 0, 0, 0, 0};
}

double Buckets::total() const {
  double total = 0;
  for (const Bucket& bucket : buckets_) total += bucket.mass;
  return total;
}

}  // namespace infrs
